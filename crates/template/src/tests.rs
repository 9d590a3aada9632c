//! The language in a table. Expected texts are what Go's `text/template` gives.

use super::*;
use serde_json::json;

fn data() -> Value {
    Value::raw(&json!({
        "Name": "web", "Count": 3, "Empty": "", "Null": null, "On": true,
        "List": ["a", "b", "c"], "None": [],
        "Map": {"y": "2", "x": "1"},
        "Deep": {"List": [{"A": "1"}, {"A": "2"}]},
    }))
}

#[test]
fn language() {
    for (template, want) in [
        ("{{.Name}}", "web"),
        ("a{{/* c */}}b", "ab"),
        ("a {{- /* c */ -}} b", "ab"),
        ("a {{- .Name -}} b", "awebb"),
        ("{{ .Name | printf \"%s-%s\" \"x\" }}", "x-web"),
        ("{{.List}} {{.Map}}", "[a b c] map[x:1 y:2]"),
        ("{{json .Map}}", "{\"x\":\"1\",\"y\":\"2\"}"),
        ("{{range .List}}{{.}},{{end}}", "a,b,c,"),
        ("{{range $i, $e := .List}}{{$i}}={{$e}} {{end}}", "0=a 1=b 2=c "),
        ("{{range $k, $v := .Map}}{{$k}}={{$v}};{{end}}", "x=1;y=2;"),
        ("{{range .None}}x{{else}}none{{end}}", "none"),
        ("{{range .List}}{{if eq . \"b\"}}{{continue}}{{end}}{{.}}{{end}}", "ac"),
        ("{{range .List}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}", "a"),
        ("{{if .Empty}}a{{else if .On}}b{{else}}c{{end}}", "b"),
        ("{{with .Deep}}{{range .List}}{{.A}}{{end}}{{end}}", "12"),
        ("{{with .Empty}}x{{else}}y{{end}}", "y"),
        ("{{$x := .Name}}{{$x}}{{$x = \"n\"}}{{$x}}", "webn"),
        ("{{define \"t\"}}<{{.}}>{{end}}{{template \"t\" .Name}}", "<web>"),
        ("{{block \"t\" .Name}}[{{.}}]{{end}}", "[web]"),
        ("{{.Nope}} {{.Null}}", "<no value> <no value>"),
        ("{{index .List 1}} {{index .Map \"x\"}}", "b 1"),
        ("{{index .Deep.List 0}}", "map[A:1]"),
        ("{{(index .Deep.List 1).A}}", "2"),
        ("{{len .List}} {{len .Name}}", "3 3"),
        ("{{slice .Name 1 2}} {{slice .List 1}}", "e [b c]"),
        ("{{and .On .Name}} {{or .Empty \"d\"}} {{not .On}}", "web d false"),
        (
            "{{eq .Name \"a\" \"web\"}} {{ne 1 2}} {{lt 1 2}} {{ge 2 2}}",
            "true true true true",
        ),
        ("{{print 1 2 \"a\" 3}} {{println .Name}}", "1 2a3 web\n"),
        (
            "{{html \"<a&'>\"}} {{js \"it's\"}} {{urlquery \"a b&c\"}}",
            "&lt;a&amp;&#39;&gt; it\\'s a+b%26c",
        ),
        ("{{upper .Name}} {{lower \"AB\"}} {{title \"a bc\"}}", "WEB ab A Bc"),
        ("{{join (split \"a,b\" \",\") \"/\"}}", "a/b"),
        ("{{pad .Name 1 2}}| {{truncate .Name 2}}", " web  | we"),
        (
            "{{printf \"%q %v %5.1f %t\" .Name .Count 2.55 true}}",
            "\"web\" 3   2.5 true",
        ),
        ("{{\"a\\tb\"}} {{`a\\tb`}} {{'a'}}", "a\tb a\\tb 97"),
        ("{{1.5}} {{0x10}} {{-3}} {{1e3}}", "1.5 16 -3 1000"),
        (
            "{{$}}",
            "map[Count:3 Deep:map[List:[map[A:1] map[A:2]]] Empty: List:[a b c] Map:map[x:1 y:2] Name:web None:[] Null:<nil> On:true]",
        ),
        ("{{.Name}}\n{{- \"x\"}}", "webx"),
    ] {
        let got = Template::parse(template).and_then(|t| t.execute(&data()).map_err(|(_, e)| e));
        assert_eq!(got.as_deref(), Ok(want), "{template}");
    }
}

#[test]
fn errors() {
    for (template, want) in [
        ("{{.Name", "template: :1: unclosed action"),
        ("{{", "template: :1: unclosed action"),
        ("{{}}", "template: :1: missing value for command"),
        ("{{foo}}", "template: :1: function \"foo\" not defined"),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ("{{if .A}}", "template: :1: unexpected EOF"),
        ("{{$x}}", "template: :1: undefined variable \"$x\""),
        ("{{.A | }}", "template: :1: missing value for command"),
        ("\n{{\"a}}", "template: :2: unterminated quoted string"),
        ("{{/* a}}", "template: :1: unclosed comment"),
        ("{{(.A}}", "template: :1: unclosed left paren"),
        ("{{.A)}}", "template: :1: unexpected right paren"),
        ("{{1 | 2}}", "template: :1: non executable command in pipeline stage 2"),
        ("{{break}}", "template: :1: {{break}} outside {{range}}"),
        (
            "{{.Name.Foo}}",
            "template: :1:7: executing \"\" at <.Name.Foo>: can't evaluate field Foo in type interface {}",
        ),
        (
            "{{.Null.Foo}}",
            "template: :1:7: executing \"\" at <.Null.Foo>: nil pointer evaluating interface {}.Foo",
        ),
        (
            "{{index .List 9}}",
            "template: :1:2: executing \"\" at <index .List 9>: error calling index: index out of range: 9",
        ),
        (
            "{{template \"x\"}}",
            "template: :1:11: executing \"\" at <{{template \"x\"}}>: template \"x\" not defined",
        ),
        (
            "{{upper .Count}}",
            "template: :1:8: executing \"\" at <.Count>: wrong type for value; expected string; got json.Number",
        ),
        (
            "{{lt 1 \"a\"}}",
            "template: :1:2: executing \"\" at <lt 1 \"a\">: error calling lt: incompatible types for comparison",
        ),
        (
            "{{range .Count}}{{end}}",
            "template: :1:8: executing \"\" at <.Count>: range can't iterate over 3",
        ),
    ] {
        let got = Template::parse(template).and_then(|t| t.execute(&data()).map_err(|(_, e)| e));
        assert_eq!(got, Err(want.to_string()), "{template}");
    }
}

#[test]
fn types_show() {
    let kind = Type::parse("container.State");
    let state = Value::typed(&json!({"Status": "running", "ExitCode": 3}), &kind);
    let show = |text: &str| Template::parse(text).unwrap().execute(&state);
    assert_eq!(
        show("{{.}}").unwrap(),
        "{running false false false false false 0 3   <nil>}".replace("3   <nil>", "3    <nil>")
    );
    assert_eq!(show("{{.Health}}").unwrap(), "<nil>");
    assert_eq!(
        show("{{.Foo}}").unwrap_err().1,
        "template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type container.State"
    );
    assert_eq!(
        show("{{.Health.Log}}").unwrap_err().1,
        "template: :1:9: executing \"\" at <.Health.Log>: nil pointer evaluating *container.Health.Log"
    );
    assert!(
        show("{{json .}}")
            .unwrap()
            .starts_with("{\"Status\":\"running\",\"Running\":false")
    );
}

/// Nesting ends in an error, not at the end of the stack.
#[test]
fn deep_templates() {
    for piece in ["{{if .}}", "{{if .}}{{else if .}}", "{{define \"x\"}}", "{{range .}}"] {
        assert!(Template::parse(&piece.repeat(100_000)).is_err());
    }
    assert!(Template::parse(&format!("{{{{{}", "(".repeat(100_000))).is_err());
    assert!(Template::parse(&format!("{{{{if .}}}}{}", "{{else if .}}".repeat(100_000))).is_err());
    let recursive = Template::parse("{{define \"x\"}}{{template \"x\"}}{{end}}{{template \"x\"}}").unwrap();
    assert!(
        recursive
            .execute(&Value::Nil)
            .unwrap_err()
            .1
            .contains("exceeded maximum template depth")
    );
}

/// Deep nesting and odd bytes end in an error or in text, never in a panic.
#[test]
fn hostile_templates() {
    for text in [
        "{{",
        "}}",
        "{{{{",
        "{{-",
        "{{- ",
        "{{-}}",
        "{{ -}}",
        "{{\"",
        "{{'ü'}}",
        "{{.ü}}",
        "{{$ü := 1}}",
        "{{1e}}",
        "{{0x}}",
        "{{+}}",
        "{{ /* */ }}",
        "{{printf \"%*d\" 5 1}}",
        "{{printf \"%999999999999d\" 1}}",
    ] {
        let _ = Template::parse(text).map(|t| t.execute(&data()).is_ok());
    }
}
