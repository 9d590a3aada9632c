//! Which things a prune may take: the filters `label`, `label!` and `until`, the same for every kind of thing.

use api::moment::parse_moment;
use api::time::Time;
use engine::error::{Error, Result};
use engine::image::matches_label;
use std::collections::BTreeMap;

/// The filters of a prune, read. Whatever cannot be read is refused: a filter that is passed over removes too much.
pub struct Chosen {
    with: Vec<String>,
    without: Vec<String>,
    until: Option<Time>,
}

impl Chosen {
    /// Reads `label`, `label!` and `until`; others are not looked at.
    pub fn read(filters: &crate::query::Filters) -> Result<Chosen> {
        let of = |name: &str| filters.get(name).cloned().unwrap_or_default();
        let until = match of("until").as_slice() {
            [] => None,
            [one] => Some(parse_moment(one).map_err(Error::invalid)?),
            _ => return Err(Error::invalid("more than one until filter specified")),
        };
        Ok(Chosen {
            with: of("label"),
            without: of("label!"),
            until,
        })
    }

    /// Whether something with these labels, made at that time, may go. Of an unknown time, it stays if a time is asked for.
    pub fn takes(&self, labels: &BTreeMap<String, String>, created: Option<Time>) -> bool {
        let has = |wanted: &String| matches_label(labels, wanted);
        self.with.iter().all(has)
            && !self.without.iter().any(has)
            && self
                .until
                .is_none_or(|until| created.is_some_and(|created| created < until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(filters: &[(&str, &[&str])]) -> Result<Chosen> {
        let owned = |values: &&[&str]| values.iter().map(|value| value.to_string()).collect();
        Chosen::read(
            &filters
                .iter()
                .map(|(name, values)| (name.to_string(), owned(values)))
                .collect(),
        )
    }

    #[test]
    fn what_is_younger_or_marked_stays() {
        let labels = BTreeMap::from([("keep".to_string(), "yes".to_string())]);
        let minute_ago = Some(Time::of_nanos(Time::now().as_nanos() - 60_000_000_000));
        for (filters, takes) in [
            (&[][..], true),
            (&[("until", &["1h"][..])], false),
            (&[("until", &["10s"][..])], true),
            (&[("until", &["2020-01-01"][..])], false),
            (&[("label", &["keep"][..])], true),
            (&[("label", &["keep=no"][..])], false),
            (&[("label!", &["keep"][..])], false),
            (&[("label!", &["other", "keep=yes"][..])], false),
        ] {
            assert_eq!(
                chosen(filters).unwrap().takes(&labels, minute_ago),
                takes,
                "{filters:?}"
            );
        }
        assert!(!chosen(&[("until", &["10s"])]).unwrap().takes(&labels, None));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for until in [&["soon"][..], &["1h", "2h"], &[""]] {
            assert!(chosen(&[("until", until)]).is_err(), "{until:?}");
        }
    }
}
