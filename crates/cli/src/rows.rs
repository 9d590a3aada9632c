//! Lists of things as a table, as JSON lines or by a template: what `--format` of `ps`, `images`, … chooses from.

use crate::cli::Cli;
use crate::command::Failure;
use crate::table;
use std::collections::BTreeMap;
use std::rc::Rc;
use template::{Object, Template, Type, Value};

/// One thing: fields with their values.
pub struct Row {
    /// Go's name of the type, for errors.
    pub kind: &'static str,
    pub fields: Vec<(&'static str, Value)>,
    /// What `.Label` looks into; `None` where there is no such method.
    pub labels: Option<BTreeMap<String, String>>,
}

impl Object for Row {
    fn type_name(&self) -> String {
        self.kind.to_string()
    }

    fn field(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        if name == "Label"
            && let Some(labels) = &self.labels
        {
            return Some(match args {
                [Value::Str(key)] => Ok(Value::str(labels.get(&**key).cloned().unwrap_or_default())),
                [_] => Err("wrong type for value; expected string".into()),
                args => Err(format!("wrong number of args for Label: want 1 got {}", args.len())),
            });
        }
        let (_, value) = self.fields.iter().find(|(known, _)| *known == name)?;
        Some(match args {
            [] => Ok(value.clone()),
            args => Err(format!("wrong number of args for {name}: want 0 got {}", args.len())),
        })
    }

    fn names(&self) -> Vec<&'static str> {
        self.fields.iter().map(|(name, _)| *name).collect()
    }
}

/// Titles of columns, by field.
struct Titles<'a>(BTreeMap<&'a str, &'a str>);

impl Titles<'_> {
    fn value(&self) -> Value {
        let map = self
            .0
            .iter()
            .map(|(name, title)| (name.to_string(), Value::str(title)))
            .collect();
        Value::Object(Rc::new(Header(map)))
    }
}

struct Header(BTreeMap<String, Value>);

impl Object for Header {
    fn type_name(&self) -> String {
        "formatter.SubHeaderContext".into()
    }

    fn field(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        if let ("Label", [Value::Str(label)]) = (name, args) {
            let last = label.rsplit('.').next().unwrap_or_default();
            let words: String = last
                .chars()
                .map(|c| if matches!(c, '-' | '_') { ' ' } else { c })
                .collect();
            return Some(Ok(Value::str(words)));
        }
        Some(Ok(self.0.get(name).cloned().unwrap_or(Value::Nil)))
    }

    fn names(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

/// Writes rows in a format: `table …` with titles, `json`, or a template per row.
pub fn write(cli: &Cli, format: &str, titles: &[(&str, &str)], rows: &[Rc<Row>]) -> Result<(), Failure> {
    cli.print(&render(format, titles, rows)?)
}

/// The text that [`write`] writes.
pub fn render(format: &str, titles: &[(&str, &str)], rows: &[Rc<Row>]) -> Result<String, Failure> {
    let is_table = format.starts_with("table");
    let body = match format {
        "json" => "{{json .}}",
        format if is_table => &format["table".len()..],
        format => format,
    };
    let body = body.trim_matches(' ').replace("\\t", "\t").replace("\\n", "\n");
    let bad = |why: String| Failure::new(format!("template parsing error: {why}"));
    let template = Template::parse(&body).map_err(bad)?;
    let mut out = String::new();
    for row in rows {
        out.push_str(
            &template
                .execute(&Value::Object(row.clone()))
                .map_err(|(_, why)| bad(why))?,
        );
        out.push('\n');
    }
    if !is_table {
        return Ok(out);
    }
    let titles = Titles(titles.iter().copied().collect());
    let head = template
        .execute_header(&titles.value())
        .unwrap_or_else(|(written, _)| written);
    Ok(table::align(&format!("{head}\n{out}"), 10, 3))
}

/// The table format of some columns.
pub fn table_of(columns: &[&str]) -> String {
    let columns: Vec<String> = columns.iter().map(|name| format!("{{{{.{name}}}}}")).collect();
    format!("table {}", columns.join("\t"))
}

/// `inspect`: every object by a template, or all of them as one indented document.
pub struct Inspector {
    template: Option<Template>,
    kind: Type,
    /// Whether the document is indented.
    pretty: bool,
    out: String,
    count: usize,
}

impl Inspector {
    /// Reads the format; an empty one stands for the document. `kind` is Go's type of the objects.
    pub fn new(format: &str, kind: &str) -> Result<Inspector, Failure> {
        let template = match format {
            "" | "json" => None,
            format => Some(Template::parse(format).map_err(|why| Failure {
                code: 64,
                text: format!("template parsing error: {why}"),
            })?),
        };
        Ok(Inspector {
            template,
            kind: Type::parse(kind),
            pretty: format.is_empty(),
            out: String::new(),
            count: 0,
        })
    }

    /// Adds an object as the daemon sent it. Like docker, a template is tried on the typed object first, and if
    /// that fails on the document itself, where a missing key is an error.
    pub fn add(&mut self, raw: &[u8], kind: Option<&str>) -> Result<(), Failure> {
        let Some(template) = &mut self.template else {
            self.out.push_str(if self.count == 0 { "[" } else { "," });
            self.out.push_str(String::from_utf8_lossy(raw).trim_end());
            self.count += 1;
            return Ok(());
        };
        let json: serde_json::Value =
            json::from_slice(raw).map_err(|e| Failure::new(format!("unable to read inspect data: {e}")))?;
        let kind = kind.map_or_else(|| self.kind.clone(), Type::parse);
        let text = match template.execute(&Value::typed(&json, &kind)) {
            Ok(text) => text,
            Err(_) => {
                template.strict();
                let failed = |(_, why)| Failure::new(format!("template parsing error: {why}"));
                template.execute(&Value::raw(&json)).map_err(failed)?
            }
        };
        self.out.push_str(&text);
        self.out.push('\n');
        self.count += 1;
        Ok(())
    }

    /// The whole text.
    pub fn finish(self) -> String {
        match (&self.template, self.count) {
            (Some(_), 0) => "\n".into(),
            (Some(_), _) => self.out,
            (None, _) if !self.pretty && self.count > 0 => format!("{}]\n", self.out),
            (None, 0) => "[]\n".into(),
            (None, _) => format!("{}\n", indent(&format!("{}]", self.out))),
        }
    }
}

/// Indents JSON by four spaces without reading it into values: order and numbers stay as they are.
pub fn indent(json: &str) -> String {
    indent_by(json, "    ")
}

/// The same, by any white space.
pub fn indent_by(json: &str, unit: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0usize;
    let mut chars = json.chars().filter(|c| *c != '\r').peekable();
    let newline = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&unit.repeat(depth));
    };
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                out.push('"');
                while let Some(c) = chars.next() {
                    out.push(c);
                    match c {
                        '\\' => out.extend(chars.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '{' | '[' => {
                out.push(c);
                while chars.next_if(char::is_ascii_whitespace).is_some() {}
                let close = if c == '{' { '}' } else { ']' };
                if chars.next_if_eq(&close).is_some() {
                    out.push(close);
                } else {
                    depth += 1;
                    newline(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                newline(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                newline(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_keep_their_order() {
        assert_eq!(
            indent("[{\"b\":[],\"a\":{\"x\":\"{,}\\\"\"},\"n\":1.50}]\n"),
            "[\n    {\n        \"b\": [],\n        \"a\": {\n            \"x\": \"{,}\\\"\"\n        },\n        \"n\": 1.50\n    }\n]"
        );
    }

    #[test]
    fn tables_and_lines() {
        let row = |id: &str| {
            Rc::new(Row {
                kind: "*formatter.ContainerContext",
                fields: vec![("ID", Value::str(id)), ("Names", Value::str("n"))],
                labels: Some([("a.b-c".to_string(), "v".to_string())].into()),
            })
        };
        let titles = [("ID", "CONTAINER ID"), ("Names", "NAMES")];
        let show = |format: &str| render(format, &titles, &[row("1")]).map_err(|f| f.text);
        assert_eq!(
            show("table {{.ID}}\\t{{.Names}}").unwrap(),
            "CONTAINER ID   NAMES\n1              n\n"
        );
        assert_eq!(show("json").unwrap(), "{\"ID\":\"1\",\"Names\":\"n\"}\n");
        assert_eq!(show("table {{.Label \"a.b-c\"}}").unwrap(), "b c\nv\n");
        assert_eq!(
            show("{{.Foo}}").unwrap_err(),
            "template parsing error: template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type *formatter.ContainerContext"
        );
    }
}
