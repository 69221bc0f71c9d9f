//! LoRA adapters as GGUF files, which llama.cpp reads (`convert_lora_to_gguf.py`, `llama-adapter.cpp`): each
//! tensor of the model's file has a `.lora_a` `[r, k]` and a `.lora_b` `[n, r]`.

use siskin_formats::{Checkpoint, GgufTensor, TensorType, Value, write_gguf};
use siskin_models::{Head, Model};

use crate::adapter::{projections, sort};
use crate::{Adapter, AdapterConfig, AdapterModule, Error, Result};

impl Adapter {
    /// The bytes of a GGUF file, for a base of the model's architecture. GGUF has no rslora: alpha includes it.
    ///
    /// # Errors
    /// For an adapter with magnitudes or whole weights, which GGUF cannot store, or of a model whose GGUF files are not
    /// read.
    pub fn to_gguf(&self, model: &Model) -> Result<Vec<u8>> {
        if self.config.use_dora {
            return Err(Error::Adapter {
                name: self.name.clone(),
                what:
                    "GGUF cannot store DoRA's magnitudes; `siskin merge` merges them into the model"
                        .into(),
            });
        }
        if self.replaces_weights() {
            return Err(Error::Adapter {
                name: self.name.clone(),
                what: "GGUF cannot store the whole weights that it replaces".into(),
            });
        }
        let arch = model.gguf_arch().ok_or_else(|| Error::Adapter {
            name: self.name.clone(),
            what: format!("GGUF files of {} are not written", model.arch()),
        })?;
        let r = self.config.r;
        let text = |s: &str| Value::String(s.into());
        let metadata = [
            ("general.architecture", text(arch)),
            ("general.type", text("adapter")),
            ("adapter.type", text("lora")),
            (
                "adapter.lora.alpha",
                Value::Float(f64::from(self.config.scaling() * r as f32)),
            ),
        ];
        let metadata = metadata.map(|(key, value)| (key.to_string(), value));
        let (mut tensors, mut values) = (vec![], vec![]);
        for m in &self.modules {
            let (name, transform) = model.in_gguf(&m.name);
            let b = transform.undo(m.b.clone(), r);
            for (part, rows, data) in [("a", r, m.a.clone()), ("b", b.len() / r, b)] {
                tensors.push(GgufTensor {
                    name: format!("{name}.lora_{part}"),
                    shape: vec![rows, data.len() / rows],
                    ty: TensorType::F32,
                });
                values.push(data);
            }
        }
        let mut out = vec![];
        write_gguf::<std::io::Error>(&mut out, &metadata, &tensors, |i| {
            Ok(values[i].iter().flat_map(|v| v.to_le_bytes()).collect())
        })
        .map_err(|e| Error::Read {
            name: self.name.clone(),
            what: e.to_string(),
        })?;
        Ok(out)
    }

    /// Reads an adapter's GGUF file, for a model of the same architecture.
    ///
    /// # Errors
    /// If the file is not an adapter, is one for another architecture, or contains tensors that are not of a linear of
    /// the model.
    pub fn from_gguf(file: &Checkpoint, model: &Model) -> Result<Self> {
        let unfit = |what: String| Error::Adapter {
            name: file.name.clone(),
            what,
        };
        let gguf = file.gguf.as_ref();
        let field = |key: &str| gguf.and_then(|g| g.str(key)).unwrap_or_default();
        if (field("general.type"), field("adapter.type")) != ("adapter", "lora") {
            return Err(unfit("the file is not a LoRA adapter".into()));
        }
        let found = field("general.architecture");
        let wanted = model.gguf_arch().unwrap_or(model.arch());
        if found != wanted {
            return Err(unfit(format!("it is for {found}, the model is {wanted}")));
        }
        let mut modules = vec![];
        let mut rank = None;
        for (module, _) in projections(&model.graph(Head::Next)?) {
            let (name, transform) = model.in_gguf(&module);
            let part = |part: &str| file.find(&format!("{name}.lora_{part}"));
            let (Some(a), Some(b)) = (part("a"), part("b")) else {
                continue;
            };
            let r = a.shape[0];
            let shapes_fit = a.shape.len() == 2 && b.shape.len() == 2 && b.shape[1] == r;
            if !shapes_fit || *rank.get_or_insert(r) != r {
                let what = format!("`{name}` is {:?} and {:?}", a.shape, b.shape);
                return Err(unfit(format!("{what}; only a single rank is supported")));
            }
            modules.push(AdapterModule {
                name: module,
                a: file.read_f32(a)?,
                b: transform.apply(file.read_f32(b)?, r),
                m: vec![],
            });
        }
        if 2 * modules.len() != file.tensors.len() {
            let n = file.tensors.len() - 2 * modules.len();
            return Err(unfit(format!(
                "{n} of its tensors belong to no linear of the model"
            )));
        }
        let Some(r) = rank.filter(|r| *r > 0) else {
            return Err(unfit("it does not adapt anything".into()));
        };
        let alpha = gguf.and_then(|g| g.float("adapter.lora.alpha"));
        sort(&mut modules);
        Ok(Self {
            name: file.name.clone(),
            config: AdapterConfig::plain(r, alpha.map_or(r as f32, |a| a as f32)),
            strength: 1.0,
            modules,
            embedding: None,
            replaced: vec![],
            within_vision: false,
        })
    }
}
