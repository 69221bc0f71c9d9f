//! The local time, and Python's `strftime` of it in the C locale.

/// A local date and time without a time zone, like Python's `datetime.now()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateTime {
    /// Of the Gregorian calendar.
    pub year: i64,
    /// From 1.
    pub month: u32,
    /// Of the month, from 1.
    pub day: u32,
    /// From 0 to 23.
    pub hour: u32,
    /// From 0 to 59.
    pub minute: u32,
    /// From 0 to 59.
    pub second: u32,
    /// From 0 to 999999.
    pub microsecond: u32,
}

const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
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

impl DateTime {
    /// The current local time.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn now() -> Self {
        use chrono::{Datelike, Timelike};
        let now = chrono::Local::now();
        Self {
            year: now.year().into(),
            month: now.month(),
            day: now.day(),
            hour: now.hour(),
            minute: now.minute(),
            second: now.second(),
            microsecond: now.timestamp_subsec_micros().min(999_999),
        }
    }

    /// The current local time.
    #[cfg(target_arch = "wasm32")]
    pub fn now() -> Self {
        let now = js_sys::Date::new_0();
        Self {
            year: i64::from(now.get_full_year()),
            month: now.get_month() + 1,
            day: now.get_date(),
            hour: now.get_hours(),
            minute: now.get_minutes(),
            second: now.get_seconds(),
            microsecond: now.get_milliseconds() * 1000,
        }
    }

    /// Days since 1970-01-01 (H. Hinnant, "chrono-compatible low-level date algorithms").
    fn days(&self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let of_era = year.rem_euclid(400);
        let month = (i64::from(self.month) + 9) % 12;
        let of_year = (153 * month + 2) / 5 + i64::from(self.day) - 1;
        let day = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
        era * 146_097 + day - 719_468
    }

    /// 0 is Sunday.
    fn weekday(&self) -> i64 {
        (self.days() + 4).rem_euclid(7)
    }

    /// From 0.
    fn day_of_year(&self) -> i64 {
        let first = Self {
            month: 1,
            day: 1,
            ..*self
        };
        self.days() - first.days()
    }

    /// ISO 8601 year and week.
    fn iso_week(&self) -> (i64, i64) {
        let from_monday = (self.weekday() + 6) % 7;
        // The week belongs to the year of its Thursday.
        let thursday = self.day_of_year() - from_monday + 3;
        let length = |year: i64| {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            365 + i64::from(leap)
        };
        if thursday < 0 {
            let year = self.year - 1;
            return (year, (thursday + length(year)) / 7 + 1);
        }
        let days = length(self.year);
        if thursday >= days {
            return (self.year + 1, (thursday - days) / 7 + 1);
        }
        (self.year, thursday / 7 + 1)
    }

    /// Python's `strftime`, with glibc's flags and widths; unknown codes are left unchanged.
    pub fn strftime(&self, format: &str) -> String {
        let mut out = String::new();
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            out.push_str(&rest[..at]);
            let code = &rest[at..];
            let flags = code[1..]
                .find(|c| !"-_0^#".contains(c))
                .map_or(code.len(), |i| i + 1);
            let width = code[flags..]
                .find(|c: char| !c.is_ascii_digit())
                .map_or(code.len(), |i| i + flags);
            let modified = width + usize::from(code[width..].starts_with(['E', 'O']));
            let Some(letter) = code[modified..].chars().next() else {
                out.push_str(code);
                return out;
            };
            let end = modified + letter.len_utf8();
            match self.code(letter) {
                Some(field) => {
                    let width = code[flags..width].parse().unwrap_or(0);
                    out.push_str(&field.laid_out(&code[1..flags], width));
                }
                None => out.push_str(&code[..end]),
            }
            rest = &code[end..];
        }
        out.push_str(rest);
        out
    }

    fn code(&self, letter: char) -> Option<Field> {
        let (weekday, of_year) = (self.weekday(), self.day_of_year());
        let day_name = DAYS[weekday as usize % 7];
        let month_name = MONTHS[(self.month as usize + 11) % 12];
        let hour12 = i64::from((self.hour + 11) % 12 + 1);
        let number = |value: i64, width: usize| Some(Field::Number(value, width, '0'));
        let spaced = |value: i64| Some(Field::Number(value, 2, ' '));
        let text = |t: String| Some(Field::Text(t));
        let [day, hour, minute, second] =
            [self.day, self.hour, self.minute, self.second].map(i64::from);
        let half = if self.hour < 12 { "AM" } else { "PM" };
        match letter {
            'a' => text(day_name[..3].into()),
            'A' => text(day_name.into()),
            'b' | 'h' => text(month_name[..3].into()),
            'B' => text(month_name.into()),
            'c' => text(self.strftime("%a %b %e %H:%M:%S %Y")),
            'C' => number(self.year.div_euclid(100), 2),
            'd' => number(day, 2),
            'D' | 'x' => text(self.strftime("%m/%d/%y")),
            'e' => spaced(day),
            'f' => text(format!("{:06}", self.microsecond)),
            'F' => text(self.strftime("%Y-%m-%d")),
            'g' => number(self.iso_week().0.rem_euclid(100), 2),
            'G' => number(self.iso_week().0, 4),
            'H' => number(hour, 2),
            'I' => number(hour12, 2),
            'j' => number(of_year + 1, 3),
            'k' => spaced(hour),
            'l' => spaced(hour12),
            'm' => number(self.month.into(), 2),
            'M' => number(minute, 2),
            'n' => text("\n".into()),
            'p' => text(half.into()),
            'P' => text(half.to_lowercase()),
            'r' => text(self.strftime("%I:%M:%S %p")),
            'R' => text(self.strftime("%H:%M")),
            's' => number(self.days() * 86_400 + hour * 3600 + minute * 60 + second, 1),
            'S' => number(second, 2),
            't' => text("\t".into()),
            'T' | 'X' => text(self.strftime("%H:%M:%S")),
            'u' => number((weekday + 6) % 7 + 1, 1),
            'U' => number((of_year + 7 - weekday) / 7, 2),
            'V' => number(self.iso_week().1, 2),
            'w' => number(weekday, 1),
            'W' => number((of_year + 7 - (weekday + 6) % 7) / 7, 2),
            'y' => number(self.year.rem_euclid(100), 2),
            'Y' => number(self.year, 4),
            // There is no time zone to print.
            'z' | 'Z' => text(String::new()),
            '%' => text("%".into()),
            _ => None,
        }
    }
}

enum Field {
    Text(String),
    /// Value, width, fill character.
    Number(i64, usize, char),
}

impl Field {
    fn laid_out(&self, flags: &str, width: usize) -> String {
        let last = flags.chars().rev().find(|f| "-_0".contains(*f));
        let shown = match self {
            Self::Text(t) => {
                let fill = if last == Some('0') { '0' } else { ' ' };
                fill_to(t, width, fill)
            }
            Self::Number(value, own, fill) => {
                let fill = match last {
                    Some('-') => return value.to_string(),
                    Some('_') => ' ',
                    Some('0') => '0',
                    _ => *fill,
                };
                fill_to(&value.to_string(), width.max(*own), fill)
            }
        };
        if flags.contains('^') {
            shown.to_uppercase()
        } else if flags.contains('#') {
            let is_upper = shown.chars().all(|c| !c.is_lowercase());
            if is_upper {
                shown.to_lowercase()
            } else {
                shown.to_uppercase()
            }
        } else {
            shown
        }
    }
}

/// Absurd widths are clamped, since they bypass the budgets of templates.
fn fill_to(text: &str, width: usize, fill: char) -> String {
    let missing = width.min(1024).saturating_sub(text.chars().count());
    fill.to_string().repeat(missing) + text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_pythons() {
        // Recorded from datetime(2024, 12, 30, 17, 5, 9, 42).strftime(…).
        let at = DateTime {
            year: 2024,
            month: 12,
            day: 30,
            hour: 17,
            minute: 5,
            second: 9,
            microsecond: 42,
        };
        assert_eq!(
            at.strftime("%A %a %B %b %c"),
            "Monday Mon December Dec Mon Dec 30 17:05:09 2024"
        );
        assert_eq!(
            at.strftime("%G-W%V-%u %j %U %W %w"),
            "2025-W01-1 365 52 53 1"
        );
        assert_eq!(
            at.strftime("%-d %-I %I %p %f %y|%Z|%z|%%|%Q"),
            "30 5 05 PM 000042 24|||%|%Q"
        );
        assert_eq!(
            at.strftime("%D %F %T %R %r %e %k %l"),
            "12/30/24 2024-12-30 17:05:09 17:05 05:05:09 PM 30 17  5"
        );
        assert_eq!(at.strftime("%^b %#p %05d"), "DEC pm 00030");
    }
}
