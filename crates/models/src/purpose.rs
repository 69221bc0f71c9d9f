//! What a model is for: text, embeddings of texts, or scores of texts.

use siskin_graph::{Graph, NodeId};

use crate::{Error, Head, Model, Result, Sentence};

impl Model {
    /// Whether its tokens see those after them: it makes embeddings or scores of texts, and no text.
    pub fn is_encoder(&self) -> bool {
        self.family.is_encoder()
    }

    /// How many scores it gives a text; `None` if it makes embeddings, or text.
    pub fn labels(&self) -> Option<usize> {
        self.family.labels()
    }

    /// Whether a score is the logistic function of what [`Head::Score`] gives.
    pub fn is_logistic(&self) -> bool {
        self.family.is_logistic()
    }

    /// How many texts it tells apart where several are read together.
    pub fn kinds(&self) -> usize {
        self.family.kinds()
    }

    /// How its files say that a text's embedding is made.
    pub fn sentence(&self) -> Option<&Sentence> {
        self.sentence.as_ref()
    }

    /// Dimensions of its embeddings.
    pub fn embedding_size(&self) -> usize {
        let hidden = self.dims().hidden_size;
        self.sentence.as_ref().map_or(hidden, |s| s.size(hidden))
    }

    /// What the model is for: the end of a graph that has all of its weights.
    pub fn head(&self) -> Head {
        match (self.labels(), &self.sentence) {
            (Some(_), _) => Head::Score,
            _ if self.makes_text() => Head::Next,
            (None, Some(sentence)) => Head::Embedding(sentence.pooling),
            (None, None) => Head::Hidden,
        }
    }

    /// Whether it makes text; otherwise embeddings, or scores.
    pub fn makes_text(&self) -> bool {
        !self.is_encoder() && !self.is_headless
    }

    /// Refuses a model that makes no text.
    ///
    /// # Errors
    /// If it is an encoder, or has no head.
    pub fn check_text(&self) -> Result<()> {
        match self.makes_text() {
            true => Ok(()),
            false => Err(Error::NoText {
                arch: self.arch_name.clone(),
                why: match self.is_encoder() {
                    true => "is an encoder",
                    false => "without a head",
                },
                makes: match self.labels() {
                    Some(_) => "scores",
                    None => "embeddings",
                },
            }),
        }
    }

    /// The forward pass over a batch of whole texts, up to what each text becomes.
    pub(crate) fn text_graph(&self, mut g: Graph, x: NodeId, head: Head) -> Result<Graph> {
        // A state goes on from one text of a batch to the next.
        if !g.states.is_empty() {
            return Err(Error::NoTexts(self.arch_name.clone()));
        }
        let x = self.family.last_norm(&mut g, x)?;
        g.name(x, "model.norm");
        let x = match head {
            Head::Embedding(pooling) => {
                let x = g.pool(x, pooling)?;
                match &self.sentence {
                    Some(sentence) => sentence.after_pooling(&mut g, x)?,
                    None => x,
                }
            }
            Head::Score => {
                let score = self.family.score(&mut g, x)?;
                score.ok_or_else(|| Error::NoScores(self.arch_name.clone()))?
            }
            _ => x,
        };
        g.output(x);
        Ok(g.without_cache())
    }
}
