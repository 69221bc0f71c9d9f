//! Chat templates: Jinja as `transformers.PreTrainedTokenizerBase.apply_chat_template` runs it.

use crate::{Error, RenderRequest, Rendered, Result};
use minijinja::{Environment, ErrorKind, Value, context};

/// A compiled chat template with the special tokens it may name.
#[derive(Debug)]
pub struct ChatTemplate {
    env: Environment<'static>,
    source: String,
    bos_token: String,
    eos_token: String,
}

impl ChatTemplate {
    pub fn new(source: &str, bos_token: &str, eos_token: &str) -> Result<Self> {
        let mut env = Environment::new();
        env.set_trim_blocks(true);
        env.set_lstrip_blocks(true);
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.add_function(
            "raise_exception",
            |message: String| -> std::result::Result<Value, _> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        env.add_function("strftime_now", |format: String| strftime_now(&format));
        env.add_template_owned("chat", source.to_string())
            .map_err(|e| Error::Template(one_line(&e)))?;
        Ok(Self {
            env,
            source: source.into(),
            bos_token: bos_token.into(),
            eos_token: eos_token.into(),
        })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text of a conversation.
    pub fn render(&self, request: &RenderRequest<'_>) -> Result<Rendered> {
        let text = self
            .env
            .get_template("chat")
            .and_then(|t| {
                t.render(context! {
                    messages => request.messages,
                    add_generation_prompt => request.add_generation_prompt,
                    bos_token => self.bos_token,
                    eos_token => self.eos_token,
                    tools => Value::from(()),
                })
            })
            .map_err(|e| Error::Template(one_line(&e)))?;
        Ok(Rendered {
            text,
            ..Rendered::default()
        })
    }
}

fn one_line(e: &minijinja::Error) -> String {
    let line = e.line().map_or(String::new(), |l| format!(" (line {l})"));
    format!("{}{line}", e.detail().unwrap_or(&e.kind().to_string()))
}

/// `strftime` for the few codes that templates use, on today's date in UTC.
fn strftime_now(format: &str) -> String {
    let days = web_time::SystemTime::now()
        .duration_since(web_time::UNIX_EPOCH)
        .map_or(0, |d| (d.as_secs() / 86_400) as i64);
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let (year, month, day) = civil_from_days(days);
    let name = MONTHS[month - 1];
    format
        .replace("%Y", &year.to_string())
        .replace("%m", &format!("{month:02}"))
        .replace("%d", &format!("{day:02}"))
        .replace("%B", name)
        .replace("%b", &name[..3])
}

/// Days since 1970-01-01 to year, month, day (H. Hinnant, "chrono-compatible low-level date
/// algorithms").
fn civil_from_days(days: i64) -> (i64, usize, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    (year, month as usize, doy - (153 * mp + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Message;

    #[test]
    fn dates() {
        assert_eq!(civil_from_days(0), (1970, 1, 1));
        assert_eq!(civil_from_days(19_782), (2024, 2, 29));
        assert_eq!(civil_from_days(20_454), (2026, 1, 1));
    }

    #[test]
    fn python_methods_and_exceptions() {
        let source = "{% for m in messages %}{{ m.content.strip().upper() }}{% endfor %}\
                      {% if messages|length > 1 %}{{ raise_exception('one turn only') }}{% endif %}";
        let template = ChatTemplate::new(source, "", "").unwrap();
        let turn = Message::new("user", " hi ");
        let render = |messages: &[Message]| {
            template.render(&RenderRequest {
                messages,
                ..RenderRequest::default()
            })
        };
        assert_eq!(render(std::slice::from_ref(&turn)).unwrap().text, "HI");
        let error = render(&[turn.clone(), turn]).unwrap_err().to_string();
        assert!(error.contains("one turn only"), "{error}");
    }

    #[test]
    fn a_broken_template_is_an_error() {
        let error = ChatTemplate::new("{% for %}", "", "")
            .unwrap_err()
            .to_string();
        assert!(error.contains("broken"), "{error}");
    }
}
