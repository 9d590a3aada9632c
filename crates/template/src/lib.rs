//! Go's `text/template`, as far as `--format` and a log driver's `tag` can see it: the language, its functions, its
//! printing, its errors.
//!
//! Written after the public documentation of `text/template` and `fmt`, and compared with the `docker` command.

#![forbid(unsafe_code)]

mod execute;
mod format;
mod functions;
mod lex;
mod literals;
mod parse;
mod types;
mod value;

pub use format::time;
pub use literals::parse_int;
pub use types::Type;
pub use value::{Object, Value};

use parse::Trees;

/// A parsed template.
pub struct Template {
    name: String,
    text: String,
    trees: Trees,
    strict: bool,
}

impl Template {
    /// Parses a template without a name.
    pub fn parse(text: &str) -> Result<Template, String> {
        Template::named("", text)
    }

    /// Parses a template; the error is Go's, with the name.
    pub fn named(name: &str, text: &str) -> Result<Template, String> {
        let trees = parse::parse(text, &functions::exists).map_err(|why| format!("template: {name}:{why}"))?;
        Ok(Template {
            name: name.into(),
            text: text.into(),
            trees,
            strict: false,
        })
    }

    /// From now on, a key that a map lacks is an error.
    pub fn strict(&mut self) {
        self.strict = true;
    }

    /// Executes on a value; what was written before an error is given with it.
    pub fn execute(&self, dot: &Value) -> Result<String, (String, String)> {
        self.run(dot, false)
    }

    /// Executes on titles of columns, with functions that leave them as they are.
    pub fn execute_header(&self, dot: &Value) -> Result<String, (String, String)> {
        self.run(dot, true)
    }

    fn run(&self, dot: &Value, header: bool) -> Result<String, (String, String)> {
        let run = execute::Run {
            name: &self.name,
            text: &self.text,
            trees: &self.trees,
            strict: self.strict,
            header,
        };
        let mut out = String::new();
        match execute::execute(&run, dot, &mut out) {
            Ok(()) => Ok(out),
            Err(why) => Err((out, why)),
        }
    }
}

#[cfg(test)]
mod tests;
