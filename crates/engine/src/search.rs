//! Searching an index for images.

use crate::Engine;
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use registry::{Auth, Found};
use std::collections::BTreeMap;

/// The filters that a search knows.
pub const FILTERS: &[&str] = &["is-automated", "is-official", "stars"];

/// Asks for a term. `limit` is Docker's: 25 unless said, at most 100.
pub fn search(
    engine: &Engine,
    term: &str,
    limit: Option<&str>,
    filters: &BTreeMap<String, Vec<String>>,
    auth: &Auth,
    cancel: &Cancel,
) -> Result<Vec<Found>> {
    let limit: i64 = match limit.filter(|text| !text.is_empty() && *text != "0") {
        None => 25,
        Some(text) => text
            .parse()
            .map_err(|_| Error::invalid(format!("invalid limit: {text}")))?,
    };
    if !(1..=100).contains(&limit) {
        return Err(Error::invalid(format!(
            "limit {limit} is outside the range of [1, 100]"
        )));
    }
    let limit = u32::try_from(limit).unwrap_or(100);
    let flag = |name: &str| -> Result<Option<bool>> {
        match filters.get(name).and_then(|values| values.first()).map(String::as_str) {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => Err(Error::invalid(format!("invalid filter '{name}=[{other}]'"))),
        }
    };
    let (official, automated) = (flag("is-official")?, flag("is-automated")?);
    let mut stars = 0i64;
    for text in filters.get("stars").into_iter().flatten() {
        let wanted = text
            .parse()
            .map_err(|_| Error::invalid(format!("invalid filter 'stars={text}'")))?;
        stars = stars.max(wanted);
    }
    let found = engine.registry().search(term, limit, auth, &cancel.of_registry());
    let found = found.map_err(|e| Error::internal(e.to_string()))?;
    Ok(found
        .into_iter()
        .filter(|one| official.is_none_or(|wanted| one.is_official == wanted))
        .filter(|one| automated.is_none_or(|wanted| one.is_automated == wanted))
        .filter(|one| one.star_count >= stars)
        .collect())
}
