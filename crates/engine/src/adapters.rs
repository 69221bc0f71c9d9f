//! The adapters of a session: one for all that runs, or several among which requests choose.

use siskin_graph::{Graph, LoraSpec, Weight};
use siskin_models::{Head, Model};

use crate::load::{WeightSource, load_weights};
use crate::{Adapter, Error, Result, Session};

#[derive(Debug, Clone, Default)]
pub(crate) enum Adapters {
    #[default]
    None,
    /// For all that runs.
    All(Box<Adapter>),
    /// For the requests that name them.
    Named(Vec<(String, Adapter)>),
}

impl Adapters {
    /// The one for all that runs.
    pub fn all(&self) -> Option<&Adapter> {
        match self {
            Self::All(adapter) => Some(adapter),
            Self::None | Self::Named(_) => None,
        }
    }

    fn named(&self) -> &[(String, Adapter)] {
        match self {
            Self::Named(named) => named,
            Self::None | Self::All(_) => &[],
        }
    }

    /// What [`siskin_graph::SequenceRows::adapter`] is for a request that names an adapter.
    pub fn find(&self, name: Option<&str>) -> Result<Option<u32>> {
        let Some(name) = name else {
            return Ok(None);
        };
        let named = self.named();
        let found = named.iter().position(|(n, _)| n == name);
        let found = found.ok_or_else(|| Error::NoAdapter {
            name: name.into(),
            known: named.iter().map(|(n, _)| n.clone()).collect(),
        })?;
        Ok(Some(found as u32))
    }

    pub fn name(&self, adapter: Option<u32>) -> Option<&str> {
        let found = self.named().get(adapter? as usize)?;
        Some(&found.0)
    }

    /// The forward pass, with the adapter for all that runs.
    pub fn graph(&self, model: &Model, head: Head) -> Result<Graph> {
        let Some(adapter) = self.all() else {
            return Ok(model.graph(head)?);
        };
        let graph = adapter.model(model).graph(head)?;
        Ok(graph.with_lora(&adapter.spec(&graph)?))
    }

    /// The forward pass of steps, whose sequences may have an adapter each.
    pub fn step_graph(&self, model: &Model) -> Result<Graph> {
        let mut graph = self.graph(model, model.head())?;
        for (adapter, (_, named)) in (0..).zip(self.named()) {
            let adapter = Some(adapter);
            graph = graph.with_lora(&LoraSpec {
                adapter,
                ..named.spec(&graph)?
            });
        }
        Ok(graph)
    }

    /// The parameters of that graph's adapters.
    pub fn params(&self, graph: &Graph) -> Result<Vec<f32>> {
        let mut params = vec![0.0; graph.params_len()];
        if let Some(adapter) = self.all() {
            adapter.write_params(graph, None, &mut params)?;
        }
        for (i, (_, adapter)) in (0..).zip(self.named()) {
            adapter.write_params(graph, Some(i), &mut params)?;
        }
        Ok(params)
    }
}

impl Session {
    /// The adapter in use for all that runs.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapters.all()
    }

    /// Applies an adapter to all that runs, or none; the weights do not change. The KV cache is cleared, and a training
    /// run ends.
    ///
    /// # Errors
    /// If the adapter does not fit the model, or a request runs that has named an adapter; the session then continues
    /// with what it had.
    pub async fn set_adapter(&mut self, adapter: Option<Adapter>) -> Result<()> {
        self.replace_adapters(match adapter {
            Some(adapter) => {
                Adapters::All(Box::new(adapter.for_base(&self.model, &self.files).await?))
            }
            None => Adapters::None,
        })
        .await
    }

    /// The names of the adapters that requests can have.
    pub fn adapter_names(&self) -> impl Iterator<Item = &str> {
        self.adapters.named().iter().map(|(name, _)| name.as_str())
    }

    /// Sets the adapters that requests can name ([`crate::GenerateOptions::adapter`]), in place of those before and of
    /// [`Self::set_adapter`]'s. Requests with different adapters, and without one, share the steps and the weights. The KV
    /// cache is cleared, and a training run ends.
    ///
    /// # Errors
    /// If two have the same name, one does not fit the model or replaces some of its matrices, or a request runs that has
    /// named another one; the session then continues with what it had.
    pub async fn set_adapters(&mut self, adapters: Vec<(String, Adapter)>) -> Result<()> {
        let mut named: Vec<(String, Adapter)> = vec![];
        for (name, adapter) in adapters {
            let misfit = |what: &str| Error::Adapter {
                name: name.clone(),
                what: what.into(),
            };
            let adapter = adapter.for_base(&self.model, &self.files).await?;
            if adapter.replaces_weights() {
                let what = "it replaces matrices of the model, which its requests cannot have apart from others'; \
                            use it for all requests";
                return Err(misfit(what));
            }
            if named.iter().any(|(n, _)| *n == name) {
                return Err(misfit("there is another adapter of this name"));
            }
            named.push((name, adapter));
        }
        self.replace_adapters(Adapters::Named(named)).await
    }

    async fn replace_adapters(&mut self, adapters: Adapters) -> Result<()> {
        self.schedule.check_adapters(&adapters)?;
        let before = std::mem::replace(&mut self.adapters, adapters);
        let applied = self.apply_adapters(before.all()).await;
        if applied.is_err() {
            let failed = std::mem::replace(&mut self.adapters, before);
            self.apply_adapters(failed.all()).await?;
        }
        applied
    }

    /// Puts the adapters onto the device in place of one for all that ran, and prepares plans with them.
    async fn apply_adapters(&mut self, before: Option<&Adapter>) -> Result<()> {
        let graph = self.adapters.step_graph(&self.model)?;
        let replacing = [before, self.adapters.all()];
        let changes = |w: &&Weight| {
            let mut both = replacing.iter().flatten();
            both.any(|a| w.parts.iter().any(|p| a.replaced(&p.tensor).is_some()))
        };
        let changed: Vec<&Weight> = graph.weights.iter().filter(changes).collect();
        let source = WeightSource {
            model: &self.model,
            files: &self.files,
            adapter: self.adapters.all(),
        };
        load_weights(&mut *self.device, &source, &changed, &mut |_| ()).await?;
        let params = self.adapters.params(&graph)?;
        self.forget().await?;
        self.schedule.find_adapters(&self.adapters)?;
        self.end_training();
        self.texts = None;
        self.device.set_params(&graph, params)?;
        let (cache_types, rows) = (self.options.cache_types, self.max_rows());
        self.device
            .prepare(graph, self.capacity, cache_types, rows)
            .await
    }
}
