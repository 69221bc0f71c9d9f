//! The state of a training run as bytes: safetensors with the step and the run's identity as metadata, and a
//! SHA-256 at the end, so that an incompletely written file is rejected.

use std::collections::HashMap;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};
use siskin_engine::{Moments, TrainingState};

use crate::best::Best;
use crate::{Error, Result};

const SUM: usize = 32;

pub(crate) struct TrainingCheckpoint {
    /// Completed steps.
    pub step: usize,
    /// Options and examples, as JSON.
    pub made_with: serde_json::Value,
    pub state: TrainingState,
    pub best: Option<Best>,
}

fn damaged(what: impl std::fmt::Display) -> Error {
    Error::Checkpoint(what.to_string())
}

impl TrainingCheckpoint {
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let bytes = |v: &[f32]| -> Vec<u8> { v.iter().flat_map(|v| v.to_le_bytes()).collect() };
        let params = &self.state.params;
        let mut tensors = vec![("params", Dtype::F32, vec![params.len()], bytes(params))];
        match &self.state.moments {
            Moments::F32(moments) => {
                let shape = vec![moments.len(), 2];
                tensors.push(("moments", Dtype::F32, shape, bytes(moments.as_flattened())));
            }
            Moments::Int8 { codes, peaks } => {
                let shape = vec![2, codes.len() / 2];
                tensors.push(("codes", Dtype::U8, shape, codes.clone()));
                let shape = vec![peaks.len(), 2];
                tensors.push(("peaks", Dtype::F32, shape, bytes(peaks.as_flattened())));
            }
        }
        let best = self.best.as_ref();
        if let Some(best) = best.filter(|b| !b.params.is_empty()) {
            let shape = vec![best.params.len()];
            tensors.push(("best_params", Dtype::F32, shape, bytes(&best.params)));
        }
        let mut views = vec![];
        for (name, ty, shape, bytes) in &tensors {
            let view = TensorView::new(*ty, shape.clone(), bytes).map_err(damaged)?;
            views.push((*name, view));
        }
        let mut metadata = HashMap::from([
            ("step".to_string(), self.step.to_string()),
            ("made_with".to_string(), self.made_with.to_string()),
        ]);
        if let Some(best) = best {
            // The loss as its bits, since digits would be rounded.
            let loss = best.loss.to_bits();
            metadata.insert(
                "best".into(),
                format!("{loss} {} {}", best.step, best.since),
            );
        }
        let mut bytes = safetensors::serialize(views, Some(metadata)).map_err(damaged)?;
        let sum = Sha256::digest(&bytes);
        bytes.extend(sum);
        Ok(bytes)
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let end = bytes.len().checked_sub(SUM);
        let end = end.ok_or_else(|| damaged("it is too short"))?;
        let (body, sum) = bytes.split_at(end);
        if Sha256::digest(body).as_slice() != sum {
            return Err(damaged("checksum mismatch"));
        }
        let (_, header) = SafeTensors::read_metadata(body).map_err(damaged)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let field = |name: &str| {
            metadata
                .get(name)
                .ok_or_else(|| damaged(format!("no {name}")))
        };
        let file = SafeTensors::deserialize(body).map_err(damaged)?;
        let floats = |name: &str| -> Result<Vec<f32>> {
            let view = file.tensor(name).map_err(damaged)?;
            let (words, _) = view.data().as_chunks::<4>();
            Ok(words.iter().map(|w| f32::from_le_bytes(*w)).collect())
        };
        let pairs = |name| Ok::<_, Error>(floats(name)?.as_chunks::<2>().0.to_vec());
        let moments = match file.tensor("codes") {
            Ok(codes) => Moments::Int8 {
                codes: codes.data().to_vec(),
                peaks: pairs("peaks")?,
            },
            Err(_) => Moments::F32(pairs("moments")?),
        };
        let step = field("step")?.parse().map_err(damaged)?;
        // The optimiser counts steps in 32 bits.
        if step > u32::MAX as usize {
            return Err(damaged(format!("step {step} is not possible")));
        }
        let params = floats("params")?;
        let mut best = None;
        if let Some(text) = metadata.get("best") {
            let numbers: Vec<usize> = text.split(' ').flat_map(str::parse).collect();
            let [loss, step, since] = numbers[..] else {
                return Err(damaged("best is not three numbers"));
            };
            let params_then = match file.names().contains(&"best_params") {
                true => floats("best_params")?,
                false => vec![],
            };
            if !params_then.is_empty() && params_then.len() != params.len() {
                return Err(damaged("best_params are not as many as params"));
            }
            best = Some(Best {
                loss: f32::from_bits(loss as u32),
                step,
                since,
                params: params_then,
            });
        }
        let is_finite = |values: &[f32]| values.iter().all(|v| v.is_finite());
        let best_params = best.as_ref().map_or(&[][..], |b| &b.params);
        let kept = match &moments {
            Moments::F32(moments) => is_finite(moments.as_flattened()),
            Moments::Int8 { peaks, .. } => is_finite(peaks.as_flattened()),
        };
        if !kept || !is_finite(&params) || !is_finite(best_params) {
            return Err(damaged("a parameter or moment is not finite"));
        }
        if step > 0 && moments.is_empty() {
            return Err(damaged("it has no moments"));
        }
        Ok(Self {
            step,
            made_with: serde_json::from_str(field("made_with")?).map_err(damaged)?,
            state: TrainingState { params, moments },
            best,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_or_changed_is_not_believed() {
        let int8 = Moments::Int8 {
            codes: vec![1, 200, 3, 4],
            peaks: vec![[0.5, 2.0]],
        };
        for moments in [Moments::F32(vec![[0.5, 0.25], [3.0, 4.0]]), int8] {
            let checkpoint = TrainingCheckpoint {
                step: 7,
                made_with: serde_json::json!({"options": {"rank": 4}}),
                state: TrainingState {
                    params: vec![1.0, -2.5],
                    moments,
                },
                best: Some(Best {
                    loss: 0.5,
                    step: 4,
                    since: 2,
                    params: vec![0.25, 1.5],
                }),
            };
            let bytes = checkpoint.to_bytes().unwrap();
            let back = TrainingCheckpoint::from_bytes(&bytes).unwrap();
            assert_eq!((back.step, back.state), (7, checkpoint.state));
            assert_eq!(back.made_with, checkpoint.made_with);
            assert_eq!(back.best, checkpoint.best);
            for at in 0..bytes.len() {
                assert!(
                    TrainingCheckpoint::from_bytes(&bytes[..at]).is_err(),
                    "cut at {at}"
                );
                let mut changed = bytes.clone();
                changed[at] ^= 1;
                assert!(
                    TrainingCheckpoint::from_bytes(&changed).is_err(),
                    "changed at {at}"
                );
            }
        }
    }

    #[test]
    fn what_cannot_be_is_not_believed() {
        let made = |step, value| TrainingCheckpoint {
            step,
            made_with: serde_json::json!({}),
            state: TrainingState {
                params: vec![value],
                moments: Moments::F32(vec![[0.5, 0.25]]),
            },
            best: None,
        };
        let read = |c: TrainingCheckpoint| TrainingCheckpoint::from_bytes(&c.to_bytes().unwrap());
        assert!(read(made(7, 1.0)).is_ok());
        for wrong in [made(usize::MAX, 1.0), made(7, f32::NAN)] {
            assert!(matches!(read(wrong), Err(Error::Checkpoint(_))));
        }
        let mut shorter = made(7, 1.0);
        shorter.best = Some(Best {
            loss: 0.5,
            step: 4,
            since: 2,
            params: vec![0.25, 1.5],
        });
        assert!(matches!(read(shorter), Err(Error::Checkpoint(_))));
        let mut without = made(7, 1.0);
        without.state.moments = Moments::F32(vec![]);
        assert!(read(without).is_err());
    }
}
