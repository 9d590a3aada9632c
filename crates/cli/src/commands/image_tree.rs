//! `images --tree`: images with their platforms below them, as docker draws them.

use crate::units::{ellipsis, short_id};
use api::image::{ManifestSummary, Summary};
use api::progress::human_precision;

pub const WARNING: &str =
    "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.";

/// Spaces between two columns.
const GAP: usize = 3;
/// Narrowest that the names' column gets: others are left out before.
const NARROWEST: usize = 12;
/// Titles and widths of the columns behind the names'.
const COLUMNS: [(&str, usize); 4] = [("ID", 12), ("DISK USAGE", 10), ("CONTENT SIZE", 12), ("EXTRA", 5)];

const NAME: &str = "\x1b[34m\x1b[1m";
const PLAIN: &str = "\x1b[39m";
const FAINT: &str = "\x1b[39m\x1b[2m";
const TITLE: &str = "\x1b[39m\x1b[1m";
const END: &str = "\x1b[0m";

/// Where it is drawn: `width` in characters; on a terminal with colours, and with names cut at its edge.
#[derive(Clone, Copy)]
pub struct Canvas {
    pub width: usize,
    pub terminal: bool,
}

/// What one line says of an image or of one of its platforms.
struct Details<'a> {
    id: &'a str,
    usage: i64,
    content: i64,
    used: bool,
}

/// Draws images, the newest first. Those without a name are left out unless `all` is wanted.
pub fn draw(images: &[Summary], all: bool, canvas: Canvas) -> String {
    let mut images: Vec<&Summary> = images
        .iter()
        .filter(|image| all || !image.repo_tags.is_empty())
        .collect();
    images.sort_by_key(|image| std::cmp::Reverse(image.created));
    let platforms = |image: &&Summary| children(image).next().is_some();
    let spaced = images.iter().any(platforms);
    // As docker has it: of images that are used it is said only where the use of some platform is known.
    let chips = images.iter().flat_map(|image| children(image)).any(is_used);
    let drawing = Drawing::new(&images, canvas);
    let mut out = drawing.legend();
    out.push_str(&drawing.titles());
    for image in images {
        let mut names: Vec<&str> = image.repo_tags.iter().map(String::as_str).collect();
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        let (last, before) = match names.split_last() {
            Some((last, before)) => ((*last, NAME), before),
            None => (("<untagged>", FAINT), &[][..]),
        };
        for name in before {
            let name = match canvas.terminal {
                true => ellipsis(name, canvas.width),
                false => (*name).to_owned(),
            };
            out.push_str(&drawing.styled(NAME, &name));
            out.push('\n');
        }
        let details = Details {
            id: &image.id,
            usage: image.size,
            content: image.manifests.iter().map(|manifest| manifest.size.content).sum(),
            used: chips && (image.containers > 0 || children(image).any(is_used)),
        };
        out.push_str(&drawing.line(last, PLAIN, &details));
        let mut below = children(image).peekable();
        while let Some(child) = below.next() {
            let branch = if below.peek().is_some() { "├─" } else { "└─" };
            let style = if child.available { PLAIN } else { FAINT };
            let details = Details {
                id: &child.id,
                usage: child.size.total,
                content: child.size.content,
                used: is_used(child),
            };
            out.push_str(&drawing.line((&format!("{branch} {}", platform(child)), style), style, &details));
        }
        if spaced {
            out.push('\n');
        }
    }
    out
}

fn children(image: &Summary) -> impl Iterator<Item = &ManifestSummary> {
    image.manifests.iter().filter(|manifest| manifest.kind == "image")
}

fn is_used(manifest: &ManifestSummary) -> bool {
    let image = manifest.image_data.as_ref();
    image.is_some_and(|image| !image.containers.is_empty())
}

fn platform(manifest: &ManifestSummary) -> String {
    let platform = manifest.image_data.as_ref().map(|image| &image.platform);
    let parts = platform.map(|platform| [&platform.os, &platform.architecture, &platform.variant]);
    let parts: Vec<&str> = parts.iter().flatten().map(|part| part.as_str()).collect();
    parts.join("/").trim_end_matches('/').to_owned()
}

struct Drawing {
    canvas: Canvas,
    names: usize,
    columns: &'static [(&'static str, usize)],
}

impl Drawing {
    /// Leaves out columns at the right until the names have room, and makes the names' no wider than they are.
    fn new(images: &[&Summary], canvas: Canvas) -> Drawing {
        let mut names = canvas.width.max(20);
        let mut shown = 0;
        for (_, width) in COLUMNS {
            let column = width + GAP;
            if names < column + NARROWEST {
                break;
            }
            names -= column;
            shown += 1;
        }
        // In bytes, as docker counts: a branch is nine of them and five characters.
        let below = images.iter().flat_map(|image| children(image));
        let below = below.map(|child| platform(child).len() + "└─ ".len());
        let tags = images.iter().flat_map(|image| &image.repo_tags).map(String::len);
        let widest = below.chain(tags).max().unwrap_or(0).max("IMAGE".len());
        Drawing {
            canvas,
            names: names.min(widest),
            columns: &COLUMNS[..shown],
        }
    }

    fn styled(&self, style: &str, text: &str) -> String {
        match self.canvas.terminal {
            true => format!("{style}{text}{END}"),
            false => text.to_owned(),
        }
    }

    /// The line above the table that says what a mark means, at the right edge.
    fn legend(&self) -> String {
        let (text, length) = match self.canvas.terminal {
            true => (
                "\x1b[1m\x1b[106m\x1b[30mi\x1b[0m\x1b[0m \x1b[96mInfo → \x1b[0m\x1b[0m \x1b[38;5;0m\x1b[48;5;14m U \x1b[0m In Use ",
                21,
            ),
            false => ("Info ->  U In Use ", 18),
        };
        format!("{:1$}{text}\n\n", "", self.canvas.width.saturating_sub(length))
    }

    fn titles(&self) -> String {
        let titles = [("IMAGE", self.names)].into_iter().chain(self.columns.iter().copied());
        let titles: Vec<String> = titles
            // In bold also where nothing else is, as docker has it.
            .map(|(title, width)| format!("{TITLE}{title}{END}{:1$}", "", width.saturating_sub(title.len())))
            .collect();
        titles.join(&" ".repeat(GAP)) + "\n"
    }

    fn line(&self, (name, name_style): (&str, &str), style: &str, details: &Details<'_>) -> String {
        let name = ellipsis(name, self.names);
        let mut line = self.styled(name_style, &name);
        line.extend(std::iter::repeat_n(
            ' ',
            self.names.saturating_sub(name.chars().count()),
        ));
        let values: [(String, usize); 3] = [
            (short_id(details.id).to_owned(), 12),
            (human_precision(details.usage, 3), 10),
            (human_precision(details.content, 3), 12),
        ];
        for (value, width) in values.into_iter().take(self.columns.len()) {
            line.extend(std::iter::repeat_n(' ', GAP + width.saturating_sub(value.len())));
            line.push_str(&self.styled(style, &value));
        }
        if self.columns.len() == COLUMNS.len() {
            line.push_str(match (details.used, self.canvas.terminal) {
                (true, true) => "   \x1b[38;5;0m\x1b[48;5;14m U \x1b[0m  ",
                (true, false) => "   U    ",
                (false, _) => "        ",
            });
        }
        line.push('\n');
        line
    }
}
