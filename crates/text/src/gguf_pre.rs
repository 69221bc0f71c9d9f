//! GGUF's kinds of pre-tokenizers: `tokenizer.ggml.pre` names what llama.cpp (`llama-vocab.cpp`) splits text by.

use siskin_formats::Gguf;

use crate::{Error, Result};

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const KIMI: &str = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r"[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const SEED: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
const UFAKZEKA: &str = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const MINICPM5: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Letters that have cases, of which `L` also has the others.
const CASED: &str = r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";

const LLAMA3_KINDS: [&str; 9] = [
    "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
    "jina-v5-nano",
];
const GPT2_KINDS: [&str; 11] = [
    "gpt-2", "phi-2", "gigachat", "a.x-4.0", "mellum", "exaone4", "mpt", "olmo", "jais",
    "trillion", "granite-docling",
];
const DIGIT_KINDS: [&str; 8] = [
    "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2",
];
const QWEN2_KINDS: [&str; 4] = ["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2"];
/// As Qwen 2's, without its normalisation.
const QWEN2_LIKE: [&str; 5] = ["stablelm2", "hunyuan", "solar-open", "grok-2", "megrez"];
const DEEPSEEK3_KINDS: [&str; 4] = ["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"];
const OTHER_KINDS: [&str; 28] = [
    "default", "tekken", "qwen35", "deepseek-llm", "deepseek-coder", "falcon", "gpt-4o", "llama4",
    "kanana2", "minimax-m2", "kimi-k2", "dbrx", "smaug-bpe", "chatglm-bpe", "glm4", "glm5",
    "bailingmoe", "bailingmoe2", "llada-moe", "seed-coder", "poro-chat", "bloom", "gpt3-finnish",
    "viking", "ufakzeka", "minicpm5", "laguna", "superbpe",
];

/// How `pre` splits text: by one pattern after another.
pub(crate) struct Pre {
    pub patterns: Vec<&'static str>,
    /// Whether a whole word that is in the vocabulary is taken before any merge.
    pub ignore_merges: bool,
    pub nfc: bool,
}

pub(crate) fn kind(file: &Gguf) -> &str {
    file.str("tokenizer.ggml.pre").unwrap_or("default")
}

/// Whether the kind begins plain text with a token.
pub(crate) fn adds_bos(kind: &str) -> bool {
    LLAMA3_KINDS.contains(&kind) || kind == "tekken"
}

/// # Errors
/// If the kind is not known.
pub(crate) fn pre(file: &Gguf) -> Result<Pre> {
    let kind = kind(file);
    let plain = |patterns: &[&'static str]| Pre {
        patterns: patterns.to_vec(),
        ignore_merges: false,
        nfc: false,
    };
    let whole = |patterns: &[&'static str]| Pre {
        ignore_merges: true,
        ..plain(patterns)
    };
    Ok(match kind {
        k if LLAMA3_KINDS.contains(&k) => whole(&[LLAMA3]),
        k if GPT2_KINDS.contains(&k) => plain(&[GPT2]),
        k if DIGIT_KINDS.contains(&k) => plain(&[r"\p{N}", GPT2]),
        k if QWEN2_KINDS.contains(&k) => Pre {
            nfc: true,
            ..plain(&[QWEN2])
        },
        k if QWEN2_LIKE.contains(&k) => plain(&[QWEN2]),
        k if DEEPSEEK3_KINDS.contains(&k) => {
            plain(&[r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK3])
        }
        "default" => plain(&[r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
        "tekken" => whole(&[TEKKEN]),
        "qwen35" => Pre {
            nfc: true,
            ..plain(&[QWEN35])
        },
        "deepseek-llm" => plain(&[
            r"[\r\n]",
            CASED,
            r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
            r"\s+$",
            r"[一-龥ࠀ-一가-퟿]+",
            r"\p{N}+",
        ]),
        "deepseek-coder" => plain(&[
            r"[\r\n]",
            r"\s?\p{L}+",
            r"\s?\p{P}+",
            r"[一-龥ࠀ-一가-퟿]+",
            r"\p{N}",
        ]),
        "falcon" => plain(&[r"[\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"]),
        "gpt-4o" | "llama4" | "kanana2" | "minimax-m2" => plain(&[GPT4O]),
        "kimi-k2" => plain(&[KIMI]),
        "dbrx" | "smaug-bpe" | "chatglm-bpe" => plain(&[LLAMA3]),
        "glm4" | "glm5" => whole(&[LLAMA3]),
        "bailingmoe" | "bailingmoe2" | "llada-moe" => plain(&[BAILING]),
        "seed-coder" => plain(&[SEED]),
        "poro-chat" | "bloom" | "gpt3-finnish" => plain(&[BLOOM]),
        "viking" => plain(&[BLOOM, r"\p{N}"]),
        "ufakzeka" => plain(&[UFAKZEKA]),
        "minicpm5" => whole(&[r"\p{N}{1,3}", MINICPM5]),
        "laguna" => plain(&[r"[^\n]+|\n+", QWEN2]),
        "superbpe" => plain(&[r"\p{N}+", r"(?=(\d{3})+(?!\d))"]),
        other => {
            let lists: [&[&str]; 7] = [
                &LLAMA3_KINDS,
                &GPT2_KINDS,
                &DIGIT_KINDS,
                &QWEN2_KINDS,
                &QWEN2_LIKE,
                &DEEPSEEK3_KINDS,
                &OTHER_KINDS,
            ];
            return Err(Error::UnknownKind {
                name: file.name.clone(),
                kind: other.into(),
                known: lists.concat().join(" "),
            });
        }
    })
}
