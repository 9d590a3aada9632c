//! Columns of text, aligned as Go's `text/tabwriter` does it.

/// Aligns cells that end with tabs: columns are at least `least` wide and `padding` apart. A column is a block of
/// lines one below the other that all have it.
pub fn align(text: &str, least: usize, padding: usize) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|line| vec![0; line.len()]).collect();
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns {
        let mut start = 0;
        while start < lines.len() {
            // The last cell of a line is not ended by a tab and so belongs to no column.
            let ended = |line: &Vec<&str>| column + 1 < line.len();
            if !ended(&lines[start]) {
                start += 1;
                continue;
            }
            let length = lines[start..].iter().take_while(|line| ended(line)).count();
            let block = start..start + length;
            let widest = block
                .clone()
                .map(|i| lines[i][column].chars().count() + padding)
                .max()
                .unwrap_or(0);
            block.for_each(|i| widths[i][column] = widest.max(least));
            start += length;
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    for (i, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths[i]) {
            out.push_str(cell);
            let spaces = width.saturating_sub(cell.chars().count());
            out.extend(std::iter::repeat_n(' ', spaces));
        }
        if i + 1 < lines.len() {
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn blocks() {
        assert_eq!(
            super::align("A\tB\nlonger than ten\tx\n", 10, 3),
            "A                 B\nlonger than ten   x\n"
        );
        assert_eq!(super::align("a\tb\n\nccc\td", 1, 1), "a b\n\nccc d");
    }
}
