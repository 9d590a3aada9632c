//! Runs a template on a value; the errors are Go's, with place and context.

use super::format;
use super::functions;
use super::parse::{Command, Expr, Node, Operand, Pipe, Trees};
use super::types::Type;
use super::value::Value;
use api::quote::quote;
use std::collections::BTreeMap;
use std::rc::Rc;

/// How deep templates may call each other.
const MAX_DEPTH: usize = 200;

/// What there is to run, and how.
pub struct Run<'a> {
    pub name: &'a str,
    pub text: &'a str,
    pub trees: &'a Trees,
    /// A key that a map lacks is an error.
    pub strict: bool,
    /// Functions for the head of a table.
    pub header: bool,
}

enum Flow {
    On,
    Break,
    Continue,
}

struct State<'a> {
    run: &'a Run<'a>,
    out: &'a mut String,
    variables: Vec<(String, Value)>,
    tree: String,
    depth: usize,
}

type Result<T> = std::result::Result<T, String>;

/// Executes a tree; what was written before an error stays in `out`.
pub fn execute(run: &Run<'_>, dot: &Value, out: &mut String) -> Result<()> {
    let nodes = run.trees.get("").cloned().unwrap_or_default();
    let variables = vec![("$".to_string(), dot.clone())];
    let mut state = State {
        run,
        out,
        variables,
        tree: run.name.to_string(),
        depth: 0,
    };
    state.walk(&nodes, dot).map(|_| ())
}

impl State<'_> {
    fn fail<T>(&self, at: usize, context: &str, why: impl std::fmt::Display) -> Result<T> {
        let before = &self.run.text[..at.min(self.run.text.len())];
        let line = 1 + before.matches('\n').count();
        let column = before.rfind('\n').map_or(at, |newline| at - newline - 1);
        Err(format!(
            "template: {}:{line}:{column}: executing {} at <{context}>: {why}",
            self.run.name,
            quote(&self.tree)
        ))
    }

    fn walk(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow> {
        for node in nodes {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Action(pipe) => {
                    let value = self.pipe(pipe, dot)?;
                    if pipe.variables.is_empty() {
                        self.print(&value);
                    }
                }
                Node::If(pipe, body, otherwise) | Node::With(pipe, body, otherwise) => {
                    let mark = self.variables.len();
                    let value = self.pipe(pipe, dot)?;
                    let with = matches!(node, Node::With(..));
                    let flow = match value.truth() {
                        true if with => self.walk(body, &value),
                        true => self.walk(body, dot),
                        false => self.walk(otherwise, dot),
                    };
                    self.variables.truncate(mark);
                    match flow? {
                        Flow::On => {}
                        flow => return Ok(flow),
                    }
                }
                Node::Range(pipe, body, otherwise) => self.range(pipe, body, otherwise, dot)?,
                Node::Template { at, name, pipe } => self.template(*at, name, pipe.as_ref(), dot)?,
                Node::Break => return Ok(Flow::Break),
                Node::Continue => return Ok(Flow::Continue),
            }
        }
        Ok(Flow::On)
    }

    /// Prints as `{{.}}` does: pointers are followed, nothing is `<no value>`.
    fn print(&mut self, value: &Value) {
        match value.pointee() {
            Value::Nil => self.out.push_str("<no value>"),
            value => self.out.push_str(&format::plain(value)),
        }
    }

    fn range(&mut self, pipe: &Pipe, body: &[Node], otherwise: &[Node], dot: &Value) -> Result<()> {
        let mark = self.variables.len();
        let value = self.pipe(pipe, dot)?;
        let int = |n: usize| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
        let pairs: Vec<(Value, Value)> = match value.pointee() {
            Value::List(_, items) => items
                .iter()
                .flat_map(|items| items.iter())
                .enumerate()
                .map(|(i, item)| (int(i), item.clone()))
                .collect(),
            Value::Map(_, items) => items
                .iter()
                .flat_map(|map| map.iter())
                .map(|(key, item)| (Value::str(key), item.clone()))
                .collect(),
            Value::Int(n) => (0..*n.min(&1_000_000))
                .map(|i| (Value::Int(i), Value::Int(i)))
                .collect(),
            Value::Nil => Vec::new(),
            other => {
                let why = format!("range can't iterate over {}", format::plain(other));
                return self.fail(pipe.at, &pipe.to_string(), why);
            }
        };
        if pairs.is_empty() {
            self.variables.truncate(mark);
            self.walk(otherwise, dot)?;
            self.variables.truncate(mark);
            return Ok(());
        }
        for (key, item) in pairs {
            let inner = self.variables.len();
            match pipe.variables.as_slice() {
                [one] => self.set_variable(pipe.assign, one, item.clone()),
                [first, second] => {
                    self.set_variable(pipe.assign, first, key);
                    self.set_variable(pipe.assign, second, item.clone());
                }
                _ => {}
            }
            let flow = self.walk(body, &item);
            self.variables.truncate(inner);
            if matches!(flow?, Flow::Break) {
                break;
            }
        }
        self.variables.truncate(mark);
        Ok(())
    }

    fn set_variable(&mut self, assign: bool, name: &str, value: Value) {
        if assign && let Some(slot) = self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            slot.1 = value;
            return;
        }
        self.variables.push((name.to_string(), value));
    }

    fn template(&mut self, at: usize, name: &str, pipe: Option<&Pipe>, dot: &Value) -> Result<()> {
        let context = format!("{{{{template {}}}}}", quote(name));
        let Some(nodes) = self.run.trees.get(name).cloned() else {
            return self.fail(at, &context, format!("template {} not defined", quote(name)));
        };
        if self.depth >= MAX_DEPTH {
            return self.fail(at, &context, format!("exceeded maximum template depth ({MAX_DEPTH})"));
        }
        let dot = match pipe {
            Some(pipe) => self.pipe(pipe, dot)?,
            None => Value::Nil,
        };
        let mut inner = State {
            run: self.run,
            out: self.out,
            variables: vec![("$".to_string(), dot.clone())],
            tree: name.to_string(),
            depth: self.depth + 1,
        };
        inner.walk(&nodes, &dot).map(|_| ())
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, dot, value)?);
        }
        let value = value.unwrap_or(Value::Nil);
        if pipe.variables.len() == 1 {
            self.set_variable(pipe.assign, &pipe.variables[0], value.clone());
        }
        Ok(value)
    }

    fn command(&mut self, command: &Command, dot: &Value, last: Option<Value>) -> Result<Value> {
        let first = &command.args[0];
        let rest = &command.args[1..];
        match &first.what {
            Operand::Field(names) => return self.chain(first, dot.clone(), names, rest, last, dot),
            Operand::Variable(names) if names.len() > 1 => {
                let value = self.variable(&names[0]);
                return self.chain(first, value, &names[1..], rest, last, dot);
            }
            Operand::Chain(inner, names) => {
                let value = self.operand(inner, dot)?;
                return self.chain(first, value, names, rest, last, dot);
            }
            Operand::Function(name) => return self.function(first, name, command, rest, last, dot),
            _ => {}
        }
        if !rest.is_empty() || last.is_some() {
            return self.fail(
                first.at,
                &first.to_string(),
                format!("can't give argument to non-function {first}"),
            );
        }
        if matches!(first.what, Operand::Nil) {
            return self.fail(first.at, "nil", "nil is not a command");
        }
        self.operand(first, dot)
    }

    fn function(
        &mut self,
        first: &Expr,
        name: &str,
        command: &Command,
        rest: &[Expr],
        last: Option<Value>,
        dot: &Value,
    ) -> Result<Value> {
        if matches!(name, "and" | "or") {
            let mut value = Value::Nil;
            for arg in rest {
                value = self.operand(arg, dot)?;
                if value.truth() == (name == "or") {
                    return Ok(value);
                }
            }
            if rest.is_empty() && last.is_none() {
                let why = format!("wrong number of args for {name}: want at least 1 got 0");
                return self.fail(first.at, name, why);
            }
            return Ok(last.unwrap_or(value));
        }
        let mut args = Vec::with_capacity(rest.len() + 1);
        for arg in rest {
            args.push(self.operand(arg, dot)?);
        }
        args.extend(last);
        functions::call(name, &args, self.run.header).or_else(|why| {
            // Wrong types are told at the argument, the rest at the function.
            let at_argument = why.starts_with("wrong type for value") || why.starts_with("invalid value; ");
            let wrong = rest.iter().zip(&args).find(|(_, value)| {
                let expected = why.split("expected ").nth(1).unwrap_or_default();
                !expected.starts_with(&value.type_name())
            });
            match wrong {
                Some((arg, _)) if at_argument => self.fail(arg.at, &arg.to_string(), why),
                _ => {
                    let context = if why.starts_with("error calling") {
                        command.to_string()
                    } else {
                        name.to_string()
                    };
                    self.fail(first.at, &context, why)
                }
            }
        })
    }

    fn variable(&self, name: &str) -> Value {
        self.variables
            .iter()
            .rev()
            .find(|(known, _)| known == name)
            .map_or(Value::Nil, |(_, value)| value.clone())
    }

    fn operand(&mut self, expr: &Expr, dot: &Value) -> Result<Value> {
        match &expr.what {
            Operand::Dot => Ok(dot.clone()),
            Operand::Nil => Ok(Value::Nil),
            Operand::Bool(value) => Ok(Value::Bool(*value)),
            Operand::Number(_, number) => Ok(number.value()),
            Operand::Str(_, text) => Ok(Value::str(text)),
            Operand::Field(names) => self.chain(expr, dot.clone(), names, &[], None, dot),
            Operand::Variable(names) => {
                let value = self.variable(&names[0]);
                self.chain(expr, value, &names[1..], &[], None, dot)
            }
            Operand::Function(name) => {
                let command = Command {
                    args: vec![expr.clone()],
                };
                self.function(expr, name, &command, &[], None, dot)
            }
            Operand::Pipe(pipe) => self.pipe(pipe, dot),
            Operand::Chain(inner, names) => {
                let value = self.operand(inner, dot)?;
                self.chain(expr, value, names, &[], None, dot)
            }
        }
    }

    /// Fields of fields; only the last gets arguments.
    #[allow(clippy::too_many_arguments)]
    fn chain(
        &mut self,
        expr: &Expr,
        mut value: Value,
        names: &[String],
        args: &[Expr],
        last: Option<Value>,
        dot: &Value,
    ) -> Result<Value> {
        let mut from_interface = false;
        for (i, name) in names.iter().enumerate() {
            let mut given = Vec::new();
            if i + 1 == names.len() {
                for arg in args {
                    given.push(self.operand(arg, dot)?);
                }
                given.extend(last.clone());
            }
            let next = field(&value, name, &given, self.run.strict, from_interface);
            // An element of a map of anything is known to Go as an interface.
            from_interface = matches!(value.pointee(), Value::Map(inner, _) if **inner == Type::Any);
            value = match next {
                Ok(value) => value,
                Err(why) => return self.fail(expr.at, &expr.to_string(), why),
            };
        }
        Ok(value)
    }
}

/// One field of a value, by Go's rules.
fn field(value: &Value, name: &str, args: &[Value], strict: bool, from_interface: bool) -> Result<Value> {
    let type_name = || {
        if from_interface {
            "interface {}".to_string()
        } else {
            value.type_name()
        }
    };
    let no_args = |what: Value| {
        if args.is_empty() {
            Ok(what)
        } else {
            Err(format!("{name} has arguments but cannot be invoked as function"))
        }
    };
    match value.pointee() {
        Value::Object(object) => match object.field(name, args) {
            Some(value) => value,
            None => Err(format!("can't evaluate field {name} in type {}", object.type_name())),
        },
        Value::Struct(inner) => match inner.fields.iter().find(|(field, _)| &*field.name == name) {
            Some((_, value)) => no_args(value.clone()),
            None => Err(format!("can't evaluate field {name} in type {}", type_name())),
        },
        Value::Map(_, items) => {
            if !args.is_empty() {
                return Err(format!("{name} is not a method but has arguments"));
            }
            match items
                .as_ref()
                .and_then(|map: &Rc<BTreeMap<String, Value>>| map.get(name))
            {
                Some(value) => Ok(value.clone()),
                None if strict => Err(format!("map has no entry for key {}", quote(name))),
                None => Ok(Value::Nil),
            }
        }
        Value::Pointer(inner, None) => match &**inner {
            Type::Struct(kind) if !super::types::fields(kind).iter().any(|field| &*field.name == name) => {
                Err(format!("can't evaluate field {name} in type *{kind}"))
            }
            inner => Err(format!("nil pointer evaluating *{inner}.{name}")),
        },
        Value::Nil if from_interface => Err(format!("nil pointer evaluating interface {{}}.{name}")),
        Value::Nil if strict => Err(format!("nil data; no entry for key {}", quote(name))),
        Value::Nil => Ok(Value::Nil),
        _ => Err(format!("can't evaluate field {name} in type {}", type_name())),
    }
}
