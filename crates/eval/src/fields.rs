//! Reads the keys of a task, and refuses those that nobody has read.

use serde_json::{Map, Value as Json};

use crate::error::bad;
use crate::{Error, Result};

/// A mapping of a task.
#[derive(Debug)]
pub(crate) struct Fields {
    map: Map<String, Json>,
    /// Where it is: `metric_list[0].`.
    place: String,
}

impl Fields {
    pub fn of(value: Json, place: &str) -> Result<Self> {
        match value {
            Json::Object(map) => Ok(Self {
                map,
                place: place.into(),
            }),
            _ => bad(place.trim_end_matches('.'), "is not a mapping"),
        }
    }

    /// A key's name, with where it is.
    pub fn key(&self, key: &str) -> String {
        format!("{}{key}", self.place)
    }

    /// A value that is not null.
    pub fn take(&mut self, key: &str) -> Option<Json> {
        self.map.shift_remove(key).filter(|v| !v.is_null())
    }

    pub fn peek(&self, key: &str) -> Option<&Json> {
        self.map.get(key)
    }

    pub fn ignore(&mut self, keys: &[&str]) {
        for key in keys {
            self.map.shift_remove(*key);
        }
    }

    fn typed<T>(
        &mut self,
        key: &str,
        what: &str,
        of: impl Fn(&Json) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        match of(&value) {
            Some(value) => Ok(Some(value)),
            None => bad(self.key(key), format!("is not {what}")),
        }
    }

    pub fn text(&mut self, key: &str) -> Result<Option<String>> {
        self.typed(key, "a text", |v| v.as_str().map(String::from))
    }

    pub fn flag(&mut self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Json::as_bool)
    }

    pub fn number(&mut self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", Json::as_f64)
    }

    pub fn int(&mut self, key: &str) -> Result<Option<i64>> {
        self.typed(key, "a whole number", Json::as_i64)
    }

    pub fn count(&mut self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a whole number from 0 on", |v| {
            Some(v.as_u64()? as usize)
        })
    }

    pub fn list(&mut self, key: &str) -> Result<Option<Vec<Json>>> {
        self.typed(key, "a list", |v| v.as_array().cloned())
    }

    /// A text or a list of texts.
    pub fn texts(&mut self, key: &str) -> Result<Option<Vec<String>>> {
        self.typed(key, "a text or a list of texts", |v| match v {
            Json::String(s) => Some(vec![s.clone()]),
            Json::Array(all) => all.iter().map(|s| s.as_str().map(String::from)).collect(),
            _ => None,
        })
    }

    /// The mappings of a list.
    pub fn mappings(&mut self, key: &str) -> Result<Option<Vec<Self>>> {
        let Some(list) = self.list(key)? else {
            return Ok(None);
        };
        let place = self.key(key);
        let all = list.into_iter().enumerate();
        all.map(|(i, v)| Self::of(v, &format!("{place}[{i}].")))
            .collect::<Result<_>>()
            .map(Some)
    }

    pub fn missing<T>(&self, key: &str) -> Result<T> {
        bad(self.key(key), "is missing")
    }

    /// Refuses what was not read.
    pub fn finish(self) -> Result<()> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(key) => Err(Error::Key {
                key: self.key(key),
                what: "is not supported".into(),
            }),
        }
    }
}
