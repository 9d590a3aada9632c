//! Templates as trees, and the parser that makes them; the errors are Go's.

use super::lex::{Kind, Token, lex};
use super::literals::{number, unescape};
use super::value::Value;
use api::quote::quote;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

/// Something between `{{` and `}}`, or text.
#[derive(Clone, Debug)]
pub enum Node {
    Text(String),
    Action(Pipe),
    If(Pipe, Vec<Node>, Vec<Node>),
    With(Pipe, Vec<Node>, Vec<Node>),
    Range(Pipe, Vec<Node>, Vec<Node>),
    Template {
        at: usize,
        name: String,
        pipe: Option<Pipe>,
    },
    Break,
    Continue,
}

/// Commands, each of which gets the result of the one before as its last argument.
#[derive(Clone, Debug)]
pub struct Pipe {
    pub at: usize,
    /// Variables that get the result.
    pub variables: Vec<String>,
    /// Whether they exist already.
    pub assign: bool,
    pub commands: Vec<Command>,
}

/// A function, method or value, with arguments.
#[derive(Clone, Debug)]
pub struct Command {
    pub args: Vec<Expr>,
}

/// An operand and where it stands.
#[derive(Clone, Debug)]
pub struct Expr {
    pub at: usize,
    pub what: Operand,
}

#[derive(Clone, Debug)]
pub enum Operand {
    Dot,
    Nil,
    Bool(bool),
    /// A number as it was written, and its value.
    Number(String, Number),
    /// A string in its quotes, and what it stands for.
    Str(String, String),
    Field(Vec<String>),
    /// A variable with its `$`, and fields of it.
    Variable(Vec<String>),
    Function(String),
    Pipe(Box<Pipe>),
    Chain(Box<Expr>, Vec<String>),
}

/// Go's constants fit any type that can hold them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Int(i64),
    Uint(u64),
    Float(f64),
}

impl Number {
    pub fn value(self) -> Value {
        match self {
            Number::Int(n) => Value::Int(n),
            Number::Uint(n) => Value::Uint(n),
            Number::Float(n) => Value::Float(n),
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            Operand::Dot => f.write_str("."),
            Operand::Nil => f.write_str("nil"),
            Operand::Bool(value) => write!(f, "{value}"),
            Operand::Number(text, _) | Operand::Str(text, _) | Operand::Function(text) => f.write_str(text),
            Operand::Field(names) => names.iter().try_for_each(|name| write!(f, ".{name}")),
            Operand::Variable(names) => f.write_str(&names.join(".")),
            Operand::Pipe(pipe) => write!(f, "({pipe})"),
            Operand::Chain(inner, names) => {
                write!(f, "{inner}")?;
                names.iter().try_for_each(|name| write!(f, ".{name}"))
            }
        }
    }
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            write!(
                f,
                "{} {} ",
                self.variables.join(", "),
                if self.assign { "=" } else { ":=" }
            )?;
        }
        for (i, command) in self.commands.iter().enumerate() {
            write!(f, "{}{command}", if i > 0 { " | " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, arg) in self.args.iter().enumerate() {
            write!(f, "{}{arg}", if i > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

/// How deep parentheses and blocks may lie in each other: what is parsed here recurses, and the stack has an end.
const MAX_DEPTH: usize = 200;

/// The trees of a text: its own under the empty name, and those that it defines.
pub type Trees = BTreeMap<String, Rc<Vec<Node>>>;

/// Parses a text; the error is what stands behind `template: NAME:`.
pub fn parse(text: &str, functions: &dyn Fn(&str) -> bool) -> Result<Trees, String> {
    let (tokens, lex_error) = lex(text);
    let mut parser = Parser {
        text,
        tokens,
        at: 0,
        lex_error,
        functions,
        trees: Trees::new(),
        scope: vec!["$".into()],
        loops: 0,
        depth: 0,
    };
    let (nodes, end) = parser.list()?;
    if let Some((_, word)) = end {
        return parser.fail(format!("unexpected {{{{{word}}}}}"));
    }
    parser.trees.insert(String::new(), Rc::new(nodes));
    Ok(parser.trees)
}

/// How a list of nodes ended: `end`, `else`, `else if`, `else with`.
type Stop = Option<(usize, &'static str)>;

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    lex_error: Option<super::lex::LexError>,
    functions: &'a dyn Fn(&str) -> bool,
    trees: Trees,
    scope: Vec<String>,
    loops: usize,
    depth: usize,
}

impl Parser<'_> {
    fn line(&self, at: usize) -> usize {
        1 + self.text[..at.min(self.text.len())].matches('\n').count()
    }

    fn fail<T>(&self, why: String) -> Result<T, String> {
        let token = &self.tokens[self.at.saturating_sub(1).min(self.tokens.len() - 1)];
        Err(format!("{}: {why}", self.line(token.at)))
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    /// The next token; where the text stops being a template, the lexer's error.
    fn next(&mut self) -> Result<Token, String> {
        let token = self.peek().clone();
        if token.kind == Kind::End
            && let Some(error) = &self.lex_error
        {
            return Err(format!("{}: {}", self.line(error.at), error.why));
        }
        self.at += 1;
        Ok(token)
    }

    fn skip_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.at += 1;
        }
    }

    fn next_word(&mut self) -> Result<Token, String> {
        self.skip_space();
        self.next()
    }

    fn unexpected<T>(&self, token: &Token, context: &str) -> Result<T, String> {
        self.fail(format!("unexpected {} in {context}", describe(token)))
    }

    /// Goes one level down with `inner`.
    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        if self.depth >= MAX_DEPTH {
            return self.fail("max expression depth exceeded".into());
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn list(&mut self) -> Result<(Vec<Node>, Stop), String> {
        self.deeper(Self::nodes)
    }

    fn nodes(&mut self) -> Result<(Vec<Node>, Stop), String> {
        let mut nodes = Vec::new();
        loop {
            let token = self.next()?;
            match token.kind {
                Kind::End => return Ok((nodes, None)),
                Kind::Text => nodes.push(Node::Text(token.text)),
                Kind::Open => match self.action()? {
                    Action::Node(node) => nodes.push(node),
                    Action::Nothing => {}
                    Action::Stop(at, word) => return Ok((nodes, Some((at, word)))),
                },
                _ => return self.unexpected(&token, "input"),
            }
        }
    }

    fn action(&mut self) -> Result<Action, String> {
        self.skip_space();
        let word = self.peek().clone();
        if word.kind == Kind::Identifier {
            self.at += 1;
            match word.text.as_str() {
                "end" => {
                    self.close("end")?;
                    return Ok(Action::Stop(word.at, "end"));
                }
                "else" => {
                    self.skip_space();
                    let next = self.peek().clone();
                    if next.kind == Kind::Identifier && matches!(next.text.as_str(), "if" | "with") {
                        self.at += 1;
                        return Ok(Action::Stop(
                            word.at,
                            if next.text == "if" { "else if" } else { "else with" },
                        ));
                    }
                    self.close("else")?;
                    return Ok(Action::Stop(word.at, "else"));
                }
                "if" | "with" | "range" => return Ok(Action::Node(self.control(&word.text)?)),
                "define" => return self.define().map(|()| Action::Nothing),
                "block" => return self.block().map(Action::Node),
                "template" => return self.template().map(Action::Node),
                "break" | "continue" => {
                    self.close(&word.text)?;
                    if self.loops == 0 {
                        return self.fail(format!("{{{{{}}}}} outside {{{{range}}}}", word.text));
                    }
                    return Ok(Action::Node(if word.text == "break" {
                        Node::Break
                    } else {
                        Node::Continue
                    }));
                }
                _ => self.at -= 1,
            }
        }
        Ok(Action::Node(Node::Action(self.pipe("command", &Kind::Close)?)))
    }

    fn close(&mut self, context: &str) -> Result<(), String> {
        let token = self.next_word()?;
        if token.kind == Kind::Close {
            Ok(())
        } else {
            self.unexpected(&token, context)
        }
    }

    fn control(&mut self, word: &str) -> Result<Node, String> {
        let depth = self.scope.len();
        let pipe = self.pipe(word, &Kind::Close)?;
        if word == "range" {
            self.loops += 1;
        }
        let (body, stop) = self.list()?;
        let (body, otherwise) = match stop {
            None => return self.fail("unexpected EOF".into()),
            Some((_, "end")) => (body, Vec::new()),
            Some((_, "else")) => {
                let (nodes, stop) = self.list()?;
                match stop {
                    Some((_, "end")) => {}
                    Some((_, other)) => return self.fail(format!("expected end; found {{{{{other}}}}}")),
                    None => return self.fail("unexpected EOF".into()),
                }
                (body, nodes)
            }
            Some((_, "else if")) if word == "if" => (body, vec![self.deeper(|parser| parser.control("if"))?]),
            Some((_, "else with")) if word == "with" => (body, vec![self.deeper(|parser| parser.control("with"))?]),
            Some((_, other)) => return self.fail(format!("unexpected {{{{{other}}}}}")),
        };
        self.scope.truncate(depth);
        Ok(match word {
            "if" => Node::If(pipe, body, otherwise),
            "with" => Node::With(pipe, body, otherwise),
            _ => {
                self.loops -= 1;
                Node::Range(pipe, body, otherwise)
            }
        })
    }

    fn name(&mut self, context: &str) -> Result<(usize, String), String> {
        let token = self.next_word()?;
        match token.kind {
            Kind::Quoted | Kind::RawQuoted => Ok((token.at, self.unquote(&token)?)),
            _ => self.unexpected(&token, context),
        }
    }

    /// The body of a template of its own, which sees none of the variables around it.
    fn body(&mut self, name: String) -> Result<(), String> {
        let (scope, loops) = (
            std::mem::replace(&mut self.scope, vec!["$".into()]),
            std::mem::take(&mut self.loops),
        );
        let (nodes, stop) = self.list()?;
        (self.scope, self.loops) = (scope, loops);
        match stop {
            Some((_, "end")) => {
                self.trees.insert(name, Rc::new(nodes));
                Ok(())
            }
            Some((_, other)) => self.fail(format!("unexpected {{{{{other}}}}} in define clause")),
            None => self.fail("unexpected EOF".into()),
        }
    }

    fn define(&mut self) -> Result<(), String> {
        let (_, name) = self.name("define clause")?;
        self.close("define clause")?;
        self.body(name)
    }

    fn block(&mut self) -> Result<Node, String> {
        let (at, name) = self.name("block clause")?;
        let pipe = self.pipe("block clause", &Kind::Close)?;
        self.body(name.clone())?;
        Ok(Node::Template {
            at,
            name,
            pipe: Some(pipe),
        })
    }

    fn template(&mut self) -> Result<Node, String> {
        let (at, name) = self.name("template clause")?;
        self.skip_space();
        if self.peek().kind == Kind::Close {
            self.at += 1;
            return Ok(Node::Template { at, name, pipe: None });
        }
        let pipe = self.pipe("template clause", &Kind::Close)?;
        Ok(Node::Template {
            at,
            name,
            pipe: Some(pipe),
        })
    }

    fn pipe(&mut self, context: &str, end: &Kind) -> Result<Pipe, String> {
        self.deeper(|parser| parser.pipeline(context, end))
    }

    fn pipeline(&mut self, context: &str, end: &Kind) -> Result<Pipe, String> {
        self.skip_space();
        let mut pipe = Pipe {
            at: self.peek().at,
            variables: Vec::new(),
            assign: false,
            commands: Vec::new(),
        };
        self.declarations(context, &mut pipe)?;
        loop {
            let token = self.next_word()?;
            if token.kind == *end {
                if pipe.commands.is_empty() {
                    return self.fail(format!("missing value for {context}"));
                }
                for (i, command) in pipe.commands.iter().enumerate().skip(1) {
                    let literal = |what: &Operand| {
                        matches!(
                            what,
                            Operand::Bool(_) | Operand::Dot | Operand::Nil | Operand::Number(..) | Operand::Str(..)
                        )
                    };
                    if literal(&command.args[0].what) {
                        return self.fail(format!("non executable command in pipeline stage {}", i + 1));
                    }
                }
                return Ok(pipe);
            }
            match token.kind {
                Kind::Close | Kind::RightParen | Kind::Declare | Kind::Assign | Kind::Comma | Kind::Symbol => {
                    return self.unexpected(&token, context);
                }
                Kind::End => return self.fail("unexpected EOF".into()),
                _ => {
                    self.at -= 1;
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
            }
        }
    }

    /// `$a :=`, `$a =`, or `$a, $b :=` of a range.
    fn declarations(&mut self, context: &str, pipe: &mut Pipe) -> Result<(), String> {
        let start = self.at;
        let mut names = Vec::new();
        loop {
            self.skip_space();
            let token = self.peek().clone();
            if token.kind != Kind::Variable {
                break;
            }
            self.at += 1;
            self.skip_space();
            names.push(token.text);
            match self.peek().kind {
                Kind::Declare | Kind::Assign => {
                    pipe.assign = self.peek().kind == Kind::Assign;
                    self.at += 1;
                    if !pipe.assign {
                        self.scope.extend(names.iter().cloned());
                    } else if let Some(name) = names.iter().find(|name| !self.scope.contains(name)) {
                        return self.fail(format!("undefined variable {}", quote(name)));
                    }
                    pipe.variables = names;
                    return Ok(());
                }
                Kind::Comma if context == "range" && names.len() < 2 => self.at += 1,
                Kind::Comma => return self.fail(format!("too many declarations in {context}")),
                _ => break,
            }
        }
        self.at = start;
        Ok(())
    }

    fn command(&mut self) -> Result<Command, String> {
        self.skip_space();
        let mut command = Command { args: Vec::new() };
        loop {
            self.skip_space();
            if let Some(operand) = self.operand()? {
                command.args.push(operand);
            }
            let token = self.next()?;
            match token.kind {
                Kind::Space => continue,
                Kind::Close | Kind::RightParen => self.at -= 1,
                Kind::Pipe => {
                    self.skip_space();
                    if matches!(self.peek().kind, Kind::Close | Kind::RightParen) {
                        return self.fail("missing value for command".into());
                    }
                }
                Kind::End => return self.fail("unexpected EOF".into()),
                _ => return self.unexpected(&token, "operand"),
            }
            break;
        }
        if command.args.is_empty() {
            return self.fail("empty command".into());
        }
        Ok(command)
    }

    fn operand(&mut self) -> Result<Option<Expr>, String> {
        let Some(term) = self.term()? else {
            return Ok(None);
        };
        if self.peek().kind != Kind::Field {
            return Ok(Some(term));
        }
        let at = self.peek().at;
        let mut names = Vec::new();
        while self.peek().kind == Kind::Field {
            names.push(self.next()?.text[1..].to_string());
        }
        let what = match term.what {
            Operand::Field(mut first) => {
                first.append(&mut names);
                Operand::Field(first)
            }
            Operand::Variable(mut first) => {
                first.append(&mut names);
                Operand::Variable(first)
            }
            Operand::Bool(_) | Operand::Str(..) | Operand::Number(..) | Operand::Nil | Operand::Dot => {
                return self.fail(format!("unexpected . after term {}", quote(&term.to_string())));
            }
            _ => Operand::Chain(Box::new(term), names),
        };
        Ok(Some(Expr { at, what }))
    }

    fn term(&mut self) -> Result<Option<Expr>, String> {
        self.skip_space();
        let token = self.next()?;
        let at = token.at;
        let what = match token.kind {
            Kind::Identifier => match token.text.as_str() {
                "true" => Operand::Bool(true),
                "false" => Operand::Bool(false),
                "nil" => Operand::Nil,
                name if is_keyword(name) => return self.unexpected(&token, "command"),
                name if (self.functions)(name) => Operand::Function(token.text),
                name => return self.fail(format!("function {} not defined", quote(name))),
            },
            Kind::Dot => Operand::Dot,
            Kind::Variable if self.scope.contains(&token.text) => Operand::Variable(vec![token.text]),
            Kind::Variable => return self.fail(format!("undefined variable {}", quote(&token.text))),
            Kind::Field => Operand::Field(vec![token.text[1..].to_string()]),
            Kind::Number => match number(&token.text) {
                Some(value) => Operand::Number(token.text, value),
                None => return self.fail(format!("illegal number syntax: {}", quote(&token.text))),
            },
            Kind::Char => match unescape(&token.text[1..token.text.len() - 1]) {
                Some(text) if text.chars().count() == 1 => {
                    let code = text.chars().next().map_or(0, |c| i64::from(u32::from(c)));
                    Operand::Number(token.text, Number::Int(code))
                }
                _ => return self.fail(format!("malformed character constant: {}", token.text)),
            },
            Kind::Quoted | Kind::RawQuoted => {
                let text = self.unquote(&token)?;
                Operand::Str(token.text, text)
            }
            Kind::LeftParen => Operand::Pipe(Box::new(self.pipe("parenthesized pipeline", &Kind::RightParen)?)),
            _ => {
                self.at -= 1;
                return Ok(None);
            }
        };
        Ok(Some(Expr { at, what }))
    }

    fn unquote(&self, token: &Token) -> Result<String, String> {
        let inner = &token.text[1..token.text.len() - 1];
        if token.kind == Kind::RawQuoted {
            return Ok(inner.replace('\r', ""));
        }
        unescape(inner).map_or_else(|| self.fail("invalid syntax".into()), Ok)
    }
}

enum Action {
    Node(Node),
    Nothing,
    Stop(usize, &'static str),
}

fn is_keyword(name: &str) -> bool {
    matches!(
        name,
        "if" | "else" | "end" | "range" | "with" | "template" | "define" | "block" | "break" | "continue"
    )
}

fn describe(token: &Token) -> String {
    match token.kind {
        Kind::End => "EOF".into(),
        Kind::Identifier if is_keyword(&token.text) => format!("<{}>", token.text),
        _ if token.text.chars().count() > 10 => {
            format!("{}...", quote(&token.text.chars().take(10).collect::<String>()))
        }
        _ => quote(&token.text),
    }
}
