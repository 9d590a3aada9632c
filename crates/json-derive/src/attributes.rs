//! What stands in `#[serde(...)]`, and the names that come of it.

use syn::{Attribute, Error, ExprPath, LitStr, Result};

/// Of a struct, an enum, a field or a variant; each takes what it knows.
#[derive(Default)]
pub struct Attributes {
    pub default: bool,
    pub rename: Option<String>,
    pub rename_all: Option<String>,
    pub aliases: Vec<String>,
    pub skip: bool,
    pub skip_if: Option<ExprPath>,
    pub fill: Option<ExprPath>,
}

impl Attributes {
    pub fn of(attributes: &[Attribute]) -> Result<Attributes> {
        let mut found = Attributes::default();
        for attribute in attributes.iter().filter(|a| a.path().is_ident("serde")) {
            attribute.parse_nested_meta(|meta| {
                let name = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
                let text = || meta.value()?.parse::<LitStr>();
                match name.as_str() {
                    "default" => found.default = true,
                    "skip" => found.skip = true,
                    "rename" => found.rename = Some(text()?.value()),
                    "rename_all" => found.rename_all = Some(text()?.value()),
                    "alias" => found.aliases.push(text()?.value()),
                    "skip_serializing_if" => found.skip_if = Some(text()?.parse()?),
                    "deserialize_with" => found.fill = Some(text()?.parse()?),
                    _ => return Err(meta.error("json has no such attribute")),
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// The name of a field in JSON.
    pub fn field(&self, ident: &syn::Ident, rule: Option<&str>) -> Result<String> {
        let ident = ident.to_string();
        let ident = ident.trim_start_matches("r#");
        match (&self.rename, rule) {
            (Some(name), _) => Ok(name.clone()),
            (None, None | Some("snake_case" | "lowercase")) => Ok(ident.to_owned()),
            (None, Some("PascalCase")) => Ok(joined(ident, true)),
            (None, Some("camelCase")) => Ok(joined(ident, false)),
            (None, Some(rule)) => Err(unknown(rule)),
        }
    }

    /// The name of a variant in JSON.
    pub fn variant(&self, ident: &syn::Ident, rule: Option<&str>) -> Result<String> {
        let ident = ident.to_string();
        match (&self.rename, rule) {
            (Some(name), _) => Ok(name.clone()),
            (None, None | Some("PascalCase")) => Ok(ident),
            (None, Some("lowercase")) => Ok(ident.to_lowercase()),
            (None, Some("snake_case")) => Ok(parted(&ident, '_')),
            (None, Some("kebab-case")) => Ok(parted(&ident, '-')),
            (None, Some(rule)) => Err(unknown(rule)),
        }
    }
}

fn unknown(rule: &str) -> Error {
    Error::new(
        proc_macro2::Span::call_site(),
        format!("json does not know rename_all = {rule:?}"),
    )
}

/// `a_field` as `AField` or `aField`.
fn joined(ident: &str, mut upper: bool) -> String {
    let mut name = String::new();
    for c in ident.chars() {
        match (c, upper) {
            ('_', _) => upper = true,
            (c, true) => {
                name.push(c.to_ascii_uppercase());
                upper = false;
            }
            (c, false) => name.push(c),
        }
    }
    name
}

/// `AVariant` as `a_variant`.
fn parted(ident: &str, by: char) -> String {
    let mut name = String::new();
    for (i, c) in ident.char_indices() {
        if c.is_ascii_uppercase() && i > 0 {
            name.push(by);
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}
