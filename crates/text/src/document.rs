//! Templates of the texts that evaluations make of their data, as EleutherAI's lm-evaluation-harness renders them: Jinja
//! that keeps all white space and does not print what is undefined.

use serde_json::{Map, Value as Json};

use crate::calls::literal;
use crate::jinja::{Cx, Fault, Kind, Mask, Template};
use crate::time::DateTime;
use crate::{Error, Result};

/// A template of a text about a record of data, whose fields are its variables.
///
/// ```
/// use serde_json::json;
/// use siskin_text::DocumentTemplate;
///
/// # fn main() -> siskin_text::Result<()> {
/// let template = DocumentTemplate::new("Question: {{question.strip()}}\nAnswer:")?;
/// let record = json!({"question": " How many? "});
/// let text = template.render(record.as_object().unwrap())?;
/// assert_eq!(text, "Question: How many?\nAnswer:");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DocumentTemplate(Template);

impl DocumentTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// [`Error::Document`] if it is not Jinja, or uses what the interpreter does not have.
    pub fn new(source: &str) -> Result<Self> {
        let template = Template::of_document(source).map_err(|f| error(*f))?;
        Ok(Self(template))
    }

    /// The text for a record.
    ///
    /// # Errors
    /// [`Error::Document`] if it prints a field that the record does not have, exceeds a limit, or fails as it would in
    /// Python.
    pub fn render(&self, record: &Map<String, Json>) -> Result<String> {
        let cx = Cx {
            budget: Default::default(),
            mask: Mask::NONE,
            now: DateTime::now(),
            strict: true,
        };
        let variable = |name: &str| record.get(name).cloned();
        let output = self.0.render(cx, variable).map_err(|f| error(*f))?;
        Ok(output.text)
    }
}

fn error(fault: Fault) -> Error {
    let message = fault.message.replace('\n', " ");
    let placed = match fault.line {
        0 => message,
        line => format!("{message} (line {line})"),
    };
    Error::Document(match fault.kind {
        Kind::Syntax => format!("is not Jinja: {placed}"),
        Kind::Unsupported => format!("uses {placed}, which is not supported"),
        Kind::Limit => format!("needs {placed}, which exceeds the limit"),
        Kind::Raised | Kind::Failed => format!("failed: {placed}"),
    })
}

/// A value as Python writes it: `['a', "b's", 3, True, None]`. `None` if the text is something else.
pub fn python_value(text: &str) -> Option<Json> {
    let mut reader = literal::Reader::new(text, None);
    let value = reader.value()?;
    reader.skip_space();
    reader.rest().is_empty().then_some(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{DocumentTemplate, python_value};

    fn render(source: &str) -> crate::Result<String> {
        let record = json!({"a": "x", "list": ["it's", "ü\n", "\u{1f600}\u{200b}"], "n": 2});
        DocumentTemplate::new(source)?.render(record.as_object().unwrap())
    }

    #[test]
    fn white_space_stays() {
        // What Jinja2 3.1 renders with keep_trailing_newline, and neither trim_blocks nor lstrip_blocks.
        let text = "{{a}}\n{% if n == 2 %}\n  y\n  {% endif %}\nz\n";
        assert_eq!(render(text).unwrap(), "x\n\n  y\n  \nz\n");
        assert_eq!(render("{%- if a -%}\n b {%- endif %} c").unwrap(), "b c");
    }

    #[test]
    fn what_is_undefined_is_not_printed() {
        let error = |source: &str| render(source).unwrap_err().to_string();
        assert!(
            error("{{b}}").contains("'b' is undefined"),
            "{}",
            error("{{b}}")
        );
        assert!(error("{% if b %}{% endif %}").contains("undefined"));
        assert!(error("{{a").contains("is not Jinja"));
        assert!(error("{{a|sparkle}}").contains("sparkle"));
        assert_eq!(
            render("{{b is defined}} {{b|default('c')}}").unwrap(),
            "False c"
        );
    }

    #[test]
    fn values_as_python_writes_them() {
        let printed = render("{{list}}").unwrap();
        assert_eq!(
            python_value(&printed),
            Some(json!(["it's", "ü\n", "\u{1f600}\u{200b}"]))
        );
        assert_eq!(
            python_value("(1, True, None)"),
            Some(json!([1, true, null]))
        );
        assert_eq!(python_value("[1] 2"), None);
        assert_eq!(python_value("['a"), None);
    }
}
