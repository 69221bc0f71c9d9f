//! The types that a model can be stored in, by the names that people know.

use anyhow::{Context, Result};
use siskin_formats::TensorType;
use siskin_formats::TensorType::{
    BF16, F16, F32, IQ4_NL, IQ4_XS, NF4, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0,
};

/// A name, its number in GGUF's `general.file_type`, and the type of most matrices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FileType {
    pub name: &'static str,
    /// `None` for what GGUF does not have.
    pub number: Option<u32>,
    pub ty: TensorType,
}

const fn row(name: &'static str, number: u32, ty: TensorType) -> FileType {
    FileType {
        name,
        number: Some(number),
        ty,
    }
}

const ALL: [FileType; 20] = [
    row("f32", 0, F32),
    row("f16", 1, F16),
    row("bf16", 32, BF16),
    row("q8_0", 7, Q8_0),
    row("q6_k", 18, Q6_K),
    row("q5_k_m", 17, Q5_K),
    row("q5_k_s", 16, Q5_K),
    row("q5_1", 9, Q5_1),
    row("q5_0", 8, Q5_0),
    row("q4_k_m", 15, Q4_K),
    row("q4_k_s", 14, Q4_K),
    row("q4_1", 3, Q4_1),
    row("q4_0", 2, Q4_0),
    row("iq4_nl", 25, IQ4_NL),
    row("iq4_xs", 30, IQ4_XS),
    row("q3_k_l", 13, Q3_K),
    row("q3_k_m", 12, Q3_K),
    row("q3_k_s", 11, Q3_K),
    row("q2_k", 10, Q2_K),
    FileType {
        name: "nf4",
        number: None,
        ty: NF4,
    },
];

/// llama.cpp's short names.
const SHORT: [(&str, &str); 3] = [("q3_k", "q3_k_m"), ("q4_k", "q4_k_m"), ("q5_k", "q5_k_m")];

impl FileType {
    pub fn parse(name: &str) -> Result<Self> {
        let lower = name.to_ascii_lowercase();
        let short = SHORT.iter().find(|s| s.0 == lower);
        let wanted = short.map_or(lower.as_str(), |s| s.1);
        let found = ALL.into_iter().find(|t| t.name == wanted);
        found.with_context(|| {
            let names = ALL.map(|t| t.name).join(", ");
            format!("cannot write the type `{name}`; use one of {names}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case_and_unknown_ones_refused() {
        assert_eq!(FileType::parse("Q4_K").unwrap().name, "q4_k_m");
        let error = FileType::parse("iq2_xs").unwrap_err().to_string();
        assert!(
            error.contains("iq2_xs") && error.contains("q2_k"),
            "{error}"
        );
    }
}
