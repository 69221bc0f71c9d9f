//! The adapter in use.

use siskin_engine::Adapter;
use wasm_bindgen::prelude::*;

use crate::error::{Result, to_js};
use crate::session::Session;

#[wasm_bindgen]
impl Session {
    /// Uses an adapter from now on, or none. A training run in progress ends. Returns the name of the model that the
    /// adapter was made for, if it seems to be a different one.
    #[wasm_bindgen(js_name = setAdapter)]
    pub async fn set_adapter(
        &mut self,
        config: Option<String>,
        weights: Option<Vec<u8>>,
        strength: f32,
    ) -> Result<Option<String>> {
        let adapter = match (config, weights) {
            (Some(config), Some(weights)) => {
                let found = Adapter::from_peft("adapter", config.as_bytes(), &weights);
                let mut adapter = found.map_err(to_js)?;
                adapter.strength = strength;
                Some(adapter)
            }
            _ => None,
        };
        #[cfg(feature = "training")]
        {
            self.trainer = None;
        }
        let checkpoint = &self.session.files().checkpoint;
        let other = adapter.as_ref().and_then(|a| a.other_base(checkpoint));
        let other = other.map(String::from);
        self.session.set_adapter(adapter).await.map_err(to_js)?;
        Ok(other)
    }
}
