//! Embeddings of texts: whole texts are segments of a batch, and come back as one row each.

use siskin_formats::sort_by;
use siskin_graph::{Batch, Graph};
use siskin_models::{Head, Pooling, Sentence};
use siskin_text::Input;

use crate::{Error, Result, Session};

/// Tokens of a batch, unless one text has more.
const BATCH_ROWS: usize = 512;

/// The plan over whole texts that a session's device has.
#[derive(Debug)]
pub(crate) struct Texts {
    head: Head,
    rows: usize,
}

/// How texts become embeddings. The default is what the model's files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EmbedOptions {
    /// How the rows of a text become one; a model whose files do not say it needs it.
    pub pooling: Option<Pooling>,
    /// Only this many of the first dimensions, of a model that was trained for it (Kusupati et al., "Matryoshka
    /// Representation Learning", 2022).
    pub dimensions: Option<usize>,
    /// The name of one of the model's prompts, which is put before each text.
    pub prompt: Option<String>,
    /// Whether longer texts than the model takes are cut; otherwise they are an error.
    pub truncate: bool,
}

/// Embeddings of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// One for each text, in order.
    pub vectors: Vec<Vec<f32>>,
    /// How many tokens were read.
    pub tokens: usize,
}

impl Session {
    /// One vector for each text. They have length 1, unless the model's files say otherwise.
    ///
    /// # Errors
    /// If the model makes scores; its files do not say how embeddings are made and `options` do not either; it has no
    /// such prompt or fewer dimensions; a text is empty or longer than the model takes; or the device fails.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use siskin_engine::{EmbedOptions, OpenOptions, Pooling, Session};
    ///
    /// # let path = &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny/llama");
    /// # pollster::block_on(async {
    /// let mut session = Session::open(path, &OpenOptions::default(), &mut |_| ()).await?;
    /// let options = EmbedOptions {
    ///     // A model that was made for embeddings says this itself.
    ///     pooling: Some(Pooling::Mean),
    ///     ..EmbedOptions::default()
    /// };
    /// let found = session.embed(&["A bird.", "A finch."], &options).await?;
    /// let [a, b] = &found.vectors[..] else { unreachable!() };
    /// let cosine: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    /// assert!(cosine < 1.001);
    /// # Ok::<(), siskin_engine::Error>(())
    /// # }).unwrap();
    /// ```
    pub async fn embed(&mut self, texts: &[&str], options: &EmbedOptions) -> Result<Embeddings> {
        let sentence = self.sentence(options.pooling)?;
        let dims = self.model.embedding_size();
        if let Some(wanted) = options.dimensions.filter(|n| *n == 0 || *n > dims) {
            return Err(Error::Dimensions { wanted, max: dims });
        }
        let prompt = prompt(&sentence, options.prompt.as_deref())?;
        let max = self.most_tokens(&sentence);
        let mut inputs = vec![];
        for text in texts {
            let mut text = format!("{prompt}{text}");
            if sentence.lowercase {
                text = text.to_lowercase();
            }
            inputs.push(self.text.input(&text, max)?);
        }
        check_lengths(&inputs, max, options.truncate)?;
        let mut vectors = self.run(Head::Embedding(sentence.pooling), &inputs).await?;
        for vector in &mut vectors {
            vector.truncate(options.dimensions.unwrap_or(dims));
            if sentence.normalize {
                normalize(vector);
            }
        }
        Ok(Embeddings {
            vectors,
            tokens: inputs.iter().map(|i| i.ids.len()).sum(),
        })
    }

    /// The last hidden state of each token of a text, `[tokens.len(), hidden_size]`. Each token sees the whole text, if
    /// the model is an encoder.
    ///
    /// # Errors
    /// If a token is not in the vocabulary, there are none or more than the context, or the device fails.
    pub async fn hidden(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.check_tokens(tokens)?;
        self.check_length(tokens.len())?;
        let input = Input {
            ids: tokens.to_vec(),
            kinds: vec![0; tokens.len()],
            whole: tokens.len(),
        };
        Ok(self.run(Head::Hidden, &[input]).await?.swap_remove(0))
    }

    /// How embeddings are made.
    fn sentence(&self, pooling: Option<Pooling>) -> Result<Sentence> {
        if self.model.labels().is_some() {
            return Err(Error::Scores {
                arch: self.model.arch().into(),
            });
        }
        match (self.model.sentence(), pooling) {
            (Some(sentence), pooling) => {
                let mut sentence = sentence.clone();
                sentence.pooling = pooling.unwrap_or(sentence.pooling);
                Ok(sentence)
            }
            (None, Some(pooling)) => Ok(Sentence::of(pooling)),
            (None, None) => Err(Error::NoPooling {
                arch: self.model.arch().into(),
            }),
        }
    }

    /// The most tokens of a text.
    pub(crate) fn most_tokens(&self, sentence: &Sentence) -> usize {
        let own = sentence.max_tokens.unwrap_or(self.context());
        own.min(self.context())
    }

    /// What each text becomes at the end of a graph: its row, or all of its tokens' rows, one after another.
    pub(crate) async fn run(&mut self, head: Head, inputs: &[Input]) -> Result<Vec<Vec<f32>>> {
        let mut order: Vec<usize> = (0..inputs.len()).collect();
        // Texts of like lengths together, the longest first, for which the plan is made.
        sort_by(&mut order, &mut |a, b| {
            inputs[*b].ids.len().cmp(&inputs[*a].ids.len())
        });
        let longest = order.first().map_or(0, |i| inputs[*i].ids.len());
        let rows = longest.max(BATCH_ROWS);
        let mut out = vec![vec![]; inputs.len()];
        let mut at = 0;
        while at < order.len() {
            let mut n = 0;
            let fits = |i: &&usize| {
                n += inputs[**i].ids.len();
                n <= rows
            };
            let taken = order[at..].iter().take_while(fits).count();
            let these = &order[at..at + taken];
            let batch = self.batch(these.iter().map(|i| &inputs[*i]));
            for (i, value) in these
                .iter()
                .zip(self.run_batch_of_texts(head, &batch, rows).await?)
            {
                out[*i] = value;
            }
            at += taken;
        }
        Ok(out)
    }

    fn batch<'a>(&self, inputs: impl Iterator<Item = &'a Input>) -> Batch {
        let last = self.model.kinds() as u32 - 1;
        let mut batch = Batch::default();
        for input in inputs {
            let kinds: Vec<u32> = input.kinds.iter().map(|kind| *kind.min(&last)).collect();
            batch.push(&input.ids, &kinds);
        }
        batch
    }

    /// What each text of a batch becomes. A device that is lost is opened again.
    async fn run_batch_of_texts(
        &mut self,
        head: Head,
        batch: &Batch,
        rows: usize,
    ) -> Result<Vec<Vec<f32>>> {
        let mut was_lost = false;
        let values = loop {
            let run = self.try_batch_of_texts(head, batch, rows).await;
            match run {
                Err(e) if e.is_device_lost() && !was_lost => {
                    was_lost = true;
                    self.reopen().await?;
                }
                run => break run?,
            }
        };
        if !values.iter().all(|v| v.is_finite()) {
            return Err(Error::NotFinite {
                place: "the embeddings".into(),
            });
        }
        if head != Head::Hidden {
            let n = batch.segments().count();
            let cols = values.len() / n.max(1);
            return Ok(values.chunks_exact(cols).map(<[f32]>::to_vec).collect());
        }
        let cols = self.model.dims().hidden_size;
        let rows = |s: std::ops::Range<usize>| values[s.start * cols..s.end * cols].to_vec();
        Ok(batch.segments().map(rows).collect())
    }

    async fn try_batch_of_texts(
        &mut self,
        head: Head,
        batch: &Batch,
        rows: usize,
    ) -> Result<Vec<f32>> {
        let is_ready = |t: &Texts| t.head == head && t.rows >= rows;
        if !self.texts.as_ref().is_some_and(is_ready) {
            let graph: Graph = self.graph(head)?;
            self.device.prepare_texts(graph, rows).await?;
            self.texts = Some(Texts { head, rows });
        }
        Ok(self.device.run_texts(batch).await?.swap_remove(0))
    }
}

/// The text of a prompt by its name; nothing where the model does without.
fn prompt(sentence: &Sentence, name: Option<&str>) -> Result<String> {
    let Some(name) = name.or(sentence.default_prompt.as_deref()) else {
        return Ok(String::new());
    };
    let found = sentence.prompts.get(name).cloned();
    found.ok_or_else(|| Error::NoPrompt {
        name: name.into(),
        known: match sentence.prompts.is_empty() {
            true => "none".into(),
            false => sentence
                .prompts
                .keys()
                .cloned()
                .collect::<Vec<_>>()
                .join(", "),
        },
    })
}

/// Refuses empty texts, and longer ones than `max` unless they may be cut.
pub(crate) fn check_lengths(inputs: &[Input], max: usize, truncate: bool) -> Result<()> {
    for (i, input) in inputs.iter().enumerate() {
        if input.ids.is_empty() {
            return Err(Error::EmptyText(i + 1));
        }
        if input.whole > max && !truncate {
            return Err(Error::TextTooLong {
                number: i + 1,
                tokens: input.whole,
                max,
            });
        }
    }
    Ok(())
}

/// Divides a vector by its length, as `torch.nn.functional.normalize`.
fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-12);
    vector.iter_mut().for_each(|v| *v /= length);
}
