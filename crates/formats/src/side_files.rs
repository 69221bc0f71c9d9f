use std::collections::HashMap;
use std::path::Path;

/// The small files that stand beside the weights in a Hugging Face folder.
#[derive(Debug, Clone, Default)]
pub struct SideFiles {
    /// The folder, for error messages.
    pub folder: String,
    files: HashMap<String, String>,
}

impl SideFiles {
    /// Names that are read; a folder need not have all of them.
    pub const NAMES: [&str; 9] = [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.json",
        "chat_template.jinja",
        "additional_chat_templates/tool_use.jinja",
    ];

    pub fn new(folder: &str) -> Self {
        Self {
            folder: folder.into(),
            files: HashMap::new(),
        }
    }

    pub fn read(folder: &Path) -> Self {
        let mut side = Self::new(&folder.display().to_string());
        for name in Self::NAMES {
            if let Ok(text) = std::fs::read_to_string(folder.join(name)) {
                side.add(name, text);
            }
        }
        side
    }

    pub fn add(&mut self, name: &str, text: String) {
        self.files.insert(name.into(), text);
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.files.get(name).map(String::as_str)
    }
}
