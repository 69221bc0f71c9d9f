//! GGUF's pre-tokenizers: `tokenizer.ggml.pre` names how llama.cpp (`llama-vocab.cpp`) splits text for BPE. Where a
//! pattern there approximates the one of the model's `tokenizer.json`, the latter is here.

use siskin_formats::Gguf;

use crate::{Error, Result};

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Like Llama 3's, but runs of spaces are split into powers of 2.
const JAIS2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Like GPT-4o's, with single digits.
const YOUTU: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const KIMI: &str = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r"[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Like DeepSeek V3's, with single line breaks.
const SPARK: &str = r"[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+";
const BAILING: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const SEED: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
const UFAKZEKA: &str =
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const MINICPM5: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// A word may contain single spaces.
const EXAONE_MOE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+";
const LINES: &str = r"[^\n]+|\n+";
/// Chinese and Japanese.
const CJK: &str = r"[一-龥\x{3040}-ヿ]+";
/// Chinese, Korean, and scripts in between.
const ASIAN: &str = r"[一-龥\x{800}-一가-\x{d7ff}]+";
/// Scripts that are written without spaces, with Korean.
const SPACELESS: &str = r"[一-\x{9fff}㐀-\x{4dbf}\x{8c48}-\x{faff}\x{3040}-ヿ\x{ff65}-\x{ff9f}\x{2f00}-\x{2fdf}\x{e40}-\x{eff}\x{1780}-\x{17ff}\x{1000}-\x{109f}\x{aa60}-\x{aa7f}\x{a9e0}-\x{a9ff}가-\x{d7af}\x{1100}-\x{11ff}]+";
/// Korean, full-width punctuation, Bopomofo, and Chinese and Japanese, each by itself.
const YOUTU_SCRIPTS: &str = r"[가-힣\x{3131}-\x{318e}]+|[！…“”‘’—：；，\x{3001}-\x{303f}\x{fe30}-\x{fe4f}]+|[\x{3105}-\x{312f}]+|[一-龥\x{3040}-ヿ]+";
/// Groups of three digits, counted from the end.
const THOUSANDS: &str = r"\p{N}{1,3}(?=(?:\p{N}{3})*+(?!\p{N}))";
/// The same where a word ends.
const THOUSANDS_OF_WORDS: &str = r"\d{1,3}(?=(?:\d{3})*+\b)";
/// Cased letters; `L` also includes the others.
const CASED: &str = concat!(
    r"\s?[",
    r"A-Za-z\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293}\x{295}-\x{2af}",
    r"\x{370}-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386}\x{388}-\x{38a}\x{38c}\x{38e}-\x{3a1}\x{3a3}",
    r"-\x{3f5}\x{3f7}-\x{481}\x{48a}-\x{52f}\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-\x{13f5}\x{13f8}-",
    r"\x{13fd}\x{1c90}-\x{1cba}\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77}\x{1d79}-\x{1d9a}\x{1e00}",
    r"-\x{1f15}\x{1f18}-\x{1f1d}\x{1f20}-\x{1f45}\x{1f48}-\x{1f4d}\x{1f50}-\x{1f57}\x{1f59}\x{1f5b}\x{1f5d}",
    r"\x{1f5f}-\x{1f7d}\x{1f80}-\x{1fb4}\x{1fb6}-\x{1fbc}\x{1fbe}\x{1fc2}-\x{1fc4}\x{1fc6}-\x{1fcc}\x{1fd0}",
    r"-\x{1fd3}\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec}\x{1ff2}-\x{1ff4}\x{1ff6}-\x{1ffc}\x{2102}\x{2107}\x{210a}",
    r"-\x{2113}\x{2115}\x{2119}-\x{211d}\x{2124}\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134}\x{2139}",
    r"\x{213c}-\x{213f}\x{2145}-\x{2149}\x{214e}\x{2183}\x{2184}\x{2c00}-\x{2c7b}\x{2c7e}-\x{2ce4}\x{2ceb}",
    r"-\x{2cee}\x{2cf2}\x{2cf3}\x{a640}-\x{a66d}\x{a680}-\x{a69b}\x{a722}-\x{a76f}\x{a771}-\x{a787}\x{a78b}",
    r"-\x{a78e}\x{ab70}-\x{abbf}\x{fb00}-\x{fb06}\x{fb13}-\x{fb17}\x{ff21}-\x{ff3a}\x{ff41}-\x{ff5a}\x{10400}",
    r"-\x{1044f}\x{104b0}-\x{104d3}\x{104d8}-\x{104fb}\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2}\x{118a0}-",
    r"\x{118df}\x{1e900}-\x{1e943}",
    r"]+",
);

/// What the words of a text are made of before they are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alphabet {
    /// Bytes, in GPT-2's alphabet.
    Bytes,
    /// Characters, with `▁` for a space; unknown ones are bytes `<0xNN>`.
    Spaces,
    /// Characters; white space is between words.
    Words,
}

/// How a kind splits text, and what else it does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pre {
    /// Applied in order: each match is a word, as is the text between two matches.
    pub patterns: &'static [&'static str],
    pub alphabet: Alphabet,
    /// Whether a whole word in the vocabulary takes precedence over merges.
    pub ignore_merges: bool,
    pub nfc: bool,
    /// Whether a token is put before plain text.
    pub adds_bos: bool,
}

const fn plain(patterns: &'static [&'static str]) -> Pre {
    Pre {
        patterns,
        alphabet: Alphabet::Bytes,
        ignore_merges: false,
        nfc: false,
        adds_bos: false,
    }
}

const fn whole(patterns: &'static [&'static str]) -> Pre {
    Pre {
        ignore_merges: true,
        ..plain(patterns)
    }
}

const fn with_bos(pre: Pre) -> Pre {
    Pre {
        adds_bos: true,
        ..pre
    }
}

const fn of(alphabet: Alphabet, patterns: &'static [&'static str]) -> Pre {
    Pre {
        alphabet,
        ..plain(patterns)
    }
}

/// All kinds; those of a row are synonyms.
const KINDS: &[(&[&str], Pre)] = &[
    (
        &["default"],
        plain(&[r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
    ),
    (
        &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        with_bos(whole(&[LLAMA3])),
    ),
    (&["glm4", "glm5"], whole(&[LLAMA3])),
    (&["dbrx", "smaug-bpe", "chatglm-bpe"], plain(&[LLAMA3])),
    (&["jais-2"], plain(&[JAIS2])),
    (
        &[
            "gpt-2",
            "phi-2",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "exaone4",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "modern-bert",
            "roberta-bpe",
            "jina-es",
            "jina-de",
            "jina-v1-en",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v2-code",
        ],
        plain(&[GPT2]),
    ),
    (
        &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        plain(&[r"\p{N}", GPT2]),
    ),
    (
        &["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2"],
        Pre {
            nfc: true,
            ..plain(&[QWEN2])
        },
    ),
    (
        &["stablelm2", "hunyuan", "solar-open", "grok-2", "megrez"],
        plain(&[QWEN2]),
    ),
    (&["qwen35"], plain(&[QWEN35])),
    (&["laguna"], plain(&[LINES, QWEN2])),
    (
        &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        plain(&[r"\p{N}{1,3}", CJK, DEEPSEEK3]),
    ),
    (&["spark2_5"], plain(&[r"\p{N}{1,3}", CJK, SPARK, r"\p{N}"])),
    (&["afmoe"], plain(&[THOUSANDS, SPACELESS, DEEPSEEK3])),
    (
        &["deepseek-llm"],
        plain(&[
            r"[\r\n]",
            CASED,
            r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
            r"\s+$",
            ASIAN,
            r"\p{N}+",
        ]),
    ),
    (
        &["deepseek-coder"],
        plain(&[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", ASIAN, r"\p{N}"]),
    ),
    (
        &["falcon"],
        plain(&[r"[\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"]),
    ),
    (&["tekken"], with_bos(whole(&[TEKKEN]))),
    (
        &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
        plain(&[GPT4O]),
    ),
    (&["granite-embed-multi-97m"], whole(&[GPT4O])),
    (
        &["tiny_aya", "cohere2moe"],
        plain(&[THOUSANDS_OF_WORDS, GPT4O]),
    ),
    (&["youtu"], whole(&[YOUTU_SCRIPTS, YOUTU])),
    (&["kimi-k2"], plain(&[KIMI])),
    (
        &["bailingmoe", "bailingmoe2", "llada-moe"],
        plain(&[BAILING]),
    ),
    (&["seed-coder"], plain(&[SEED])),
    (&["exaone-moe"], plain(&[EXAONE_MOE])),
    (
        &["chameleon"],
        with_bos(plain(&[
            "<sentinel:[0-9]+>",
            "IMGIMG[A-I]{1,4}Z",
            r"[\t\n]|    |  ",
            r"\p{N}",
            r"[\p{P}!-/:-@\[-`{-~]",
            GPT2,
        ])),
    ),
    (&["poro-chat", "bloom", "gpt3-finnish"], plain(&[BLOOM])),
    (&["viking"], plain(&[BLOOM, r"\p{N}"])),
    (&["ufakzeka"], plain(&[UFAKZEKA])),
    (&["minicpm5"], whole(&[r"\p{N}{1,3}", MINICPM5])),
    (&["superbpe"], plain(&[r"\p{N}+", r"(?=(\d{3})+(?!\d))"])),
    (
        &["gemma4", "granite-embed-multi-311m"],
        with_bos(of(Alphabet::Spaces, &[LINES])),
    ),
    (&["sarvam-moe"], of(Alphabet::Spaces, &[LINES])),
    (&["whitespace"], of(Alphabet::Words, &[r"\S+"])),
];

fn kind(file: &Gguf) -> &str {
    match file.str("tokenizer.ggml.model") {
        // These models have one kind only, and files need not name it.
        Some(model @ ("gemma4" | "whitespace")) => model,
        _ => file.str("tokenizer.ggml.pre").unwrap_or("default"),
    }
}

/// How a file's text is split.
///
/// # Errors
/// If the kind is unknown.
pub(crate) fn pre(file: &Gguf) -> Result<Pre> {
    let kind = kind(file);
    let row = KINDS.iter().find(|(names, _)| names.contains(&kind));
    row.map(|(_, pre)| *pre).ok_or_else(|| {
        let known = KINDS.iter().flat_map(|(names, _)| *names).copied();
        Error::UnknownKind {
            name: file.name.clone(),
            kind: kind.into(),
            known: known.collect::<Vec<_>>().join(" "),
        }
    })
}

/// One name of each kind whose words are bytes.
pub(crate) fn byte_kinds() -> impl Iterator<Item = &'static str> {
    let rows = KINDS
        .iter()
        .filter(|(_, pre)| pre.alphabet == Alphabet::Bytes);
    rows.filter_map(|(names, _)| names.first().copied())
}
