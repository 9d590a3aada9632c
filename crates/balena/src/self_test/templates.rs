//! Checks of `--format`: Go's templates, with numbers whose printing depends on the width of an integer or a float.

use super::{Checked, Said, ensure};

/// Template and what Go makes of it.
const CASES: &[(&str, &str)] = &[
    ("{{.Name | printf \"%s-%s\" \"x\"}}", "x-web"),
    ("{{range $i, $e := .List}}{{$i}}={{$e}} {{end}}", "0=a 1=b "),
    ("{{json .Map}} {{.Map}}", "{\"x\":\"1\",\"y\":\"2\"} map[x:1 y:2]"),
    (
        "{{if gt 5368709120 2147483647}}large{{else}}small{{end}} {{.Size}}",
        "large 5368709120",
    ),
    ("{{printf \"%d %x\" 5368709120 5368709120}}", "5368709120 140000000"),
    ("{{len .List}} {{index .List 1}} {{upper .Name}}", "2 b WEB"),
];

pub fn format() -> Checked {
    let data = serde_json::json!({
        "Name": "web", "List": ["a", "b"], "Map": {"y": "2", "x": "1"}, "Size": 5_368_709_120_u64,
    });
    for (text, expected) in CASES {
        let got = cli::format(text, &data).map_err(|why| format!("{text}: {why}"))?;
        ensure(got == *expected, || format!("{text} gives {got:?}, not {expected:?}"))?;
    }
    Ok(Said::Ok(format!("{} templates", CASES.len())))
}
