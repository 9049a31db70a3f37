//! Tables that fit: columns as wide as their content, the first column on a line of its own where it is too long,
//! the last column wrapped. Ids are never cut, because people copy them.

use anstyle::Style;
use unicode_width::UnicodeWidthStr as _;

use super::{Look, colour};

/// Blank columns between two columns.
const GAP: usize = 2;

/// The narrowest last column worth wrapping into.
const LAST_MIN: usize = 16;

/// One cell.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    style: Style,
    whole: bool,
}

impl Cell {
    /// A cell in a style.
    pub(crate) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self {
            text: text.into(),
            style,
            whole: false,
        }
    }

    /// The cell as one that is never wrapped, such as a command that people copy.
    pub(crate) fn whole(self) -> Self {
        Self { whole: true, ..self }
    }

    /// The text in its style.
    pub(crate) fn painted(&self, look: &Look) -> String {
        look.paint(self.style, &self.text)
    }

    fn width(&self) -> usize {
        self.text.width()
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::new())
    }
}

/// Rows under a header.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<(Vec<Cell>, Vec<Cell>)>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self {
            header: header.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.row_with(cells, Vec::new());
    }

    /// Adds a row with lines under it that may use the whole width.
    pub(crate) fn row_with(&mut self, cells: Vec<Cell>, details: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.header.len());
        self.rows.push((cells, details));
    }

    /// The table as lines, each ended by a line end.
    pub(crate) fn render(&self, look: &Look) -> String {
        let header: Vec<Cell> = self
            .header
            .iter()
            .map(|title| Cell::styled(*title, colour::FAINT))
            .collect();
        let widths = self.widths(&header, look.width);
        let mut out = String::new();
        render_row(&mut out, &header, &widths, look);
        for (cells, details) in &self.rows {
            render_row(&mut out, cells, &widths, look);
            for detail in details {
                render_detail(&mut out, detail, look);
            }
        }
        out
    }

    /// Widths of the columns. Those in the middle get what they need; the last what is left, at least `LAST_MIN`
    /// or its need; the first its need, as far as that leaves room for the last.
    fn widths(&self, header: &[Cell], total: usize) -> Vec<usize> {
        let rows = || std::iter::once(header).chain(self.rows.iter().map(|(cells, _)| cells.as_slice()));
        let need = |column: usize| rows().map(|row| row[column].width()).max().unwrap_or(0);
        let mut widths: Vec<usize> = (0..header.len()).map(need).collect();
        let Some(last) = widths.len().checked_sub(1).filter(|last| *last > 0) else {
            return widths;
        };
        let gaps = GAP * last;
        let middle: usize = widths[1..last].iter().sum();
        let room = total.saturating_sub(gaps + middle);
        let for_last = widths[last].min(LAST_MIN);
        widths[0] = widths[0]
            .min(room.saturating_sub(for_last))
            .max(header[0].width());
        widths[last] = widths[last].min(room.saturating_sub(widths[0])).max(for_last);
        widths
    }
}

fn render_row(out: &mut String, cells: &[Cell], widths: &[usize], look: &Look) {
    let last = cells.len() - 1;
    let mut line = String::new();
    let mut column = 0;
    for (index, cell) in cells.iter().enumerate() {
        let start: usize = widths[..index].iter().map(|width| width + GAP).sum();
        if column > start {
            push_line(out, &line);
            line.clear();
            column = 0;
        }
        let wrapped = if index == last {
            wrap(&cell.text, widths[index])
        } else {
            vec![cell.text.clone()]
        };
        for (number, part) in wrapped.iter().enumerate() {
            if number > 0 {
                push_line(out, &line);
                line.clear();
                column = 0;
            }
            line.push_str(&" ".repeat(start - column));
            line.push_str(&look.paint(cell.style, part));
            column = start + part.width();
        }
        // A gap must follow, else the next cell starts a line of its own.
        column += usize::from(index < last) * GAP;
        line.push_str(if index < last { "  " } else { "" });
    }
    push_line(out, &line);
}

fn render_detail(out: &mut String, detail: &Cell, look: &Look) {
    const INDENT: &str = "    ";
    let width = if detail.whole {
        usize::MAX
    } else {
        look.width.saturating_sub(INDENT.len())
    };
    for part in wrap(&detail.text, width) {
        push_line(out, &format!("{INDENT}{}", look.paint(detail.style, &part)));
    }
}

fn push_line(out: &mut String, line: &str) {
    out.push_str(line.trim_end());
    out.push('\n');
}

/// Breaks text at white space so that no line is wider than `width`, except for a single word that is. Never empty.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.width() + 1 + word.width() > width {
            lines.push(std::mem::take(&mut line));
        } else if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// Breaks the lines of `text` for people at white space, so that none is wider than `width` where its words allow it.
/// Indentation, line ends and colours stay; a `fix:` line stays whole, because it is copied as a command.
pub(crate) fn fold(text: &str, width: usize) -> String {
    let lines: Vec<String> = text.split('\n').map(|line| fold_line(line, width)).collect();
    lines.join("\n")
}

fn fold_line(line: &str, width: usize) -> String {
    if visible(line).width() <= width || visible(line).trim_start().starts_with("fix:") {
        return line.to_owned();
    }
    let indent = &line[..line.len() - line.trim_start().len()];
    let mut folded = indent.to_owned();
    let mut column = indent.width();
    for (index, word) in line.split_whitespace().enumerate() {
        let length = visible(word).width();
        if index > 0 && column + 1 + length > width {
            folded.push('\n');
            folded.push_str(indent);
            column = indent.width();
        } else if index > 0 {
            folded.push(' ');
            column += 1;
        }
        folded.push_str(word);
        column += length;
    }
    // A prompt keeps the blank that divides it from the answer.
    folded.push_str(&line[line.trim_end().len()..]);
    folded
}

/// The text without its colours.
fn visible(text: &str) -> String {
    let mut shown = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char == '\u{1b}' {
            chars.by_ref().find(|end| *end == 'm');
        } else {
            shown.push(char);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::name::Name;

    fn look(width: usize) -> Look {
        Look {
            width,
            ..Look::plain(Name::OWN)
        }
    }

    #[test]
    fn text_for_people_is_folded_and_commands_are_not() {
        let cases = [
            ("short", "short"),
            ("note: one two three four", "note: one\ntwo three\nfour"),
            ("  aaaa bbbb cccc\nx", "  aaaa bbbb\n  cccc\nx"),
            (
                "\u{1b}[33mnote:\u{1b}[0m one two",
                "\u{1b}[33mnote:\u{1b}[0m one\ntwo",
            ),
            ("fix: a command that is long", "fix: a command that is long"),
            (
                "\u{1b}[1mfix:\u{1b}[0m a long command",
                "\u{1b}[1mfix:\u{1b}[0m a long command",
            ),
            ("https://a.example/very/long", "https://a.example/very/long"),
            ("Paste the URL: ", "Paste the\nURL: "),
        ];
        for (text, want) in cases {
            assert_eq!(fold(text, 11), want);
        }
    }

    fn sample() -> Table {
        let mut table = Table::new(&["Profile", "Type", "State"]);
        table.row(vec!["a:b".into(), "oauth".into(), "usable".into()]);
        table.row_with(
            vec![
                "openai-codex:someone@example.com".into(),
                "oauth".into(),
                "login needed since the provider refused".into(),
            ],
            vec!["fix: tokensink models auth login".into()],
        );
        table
    }

    #[test]
    fn a_wide_table_is_on_single_lines() {
        let text = sample().render(&look(100));
        assert_eq!(
            text,
            "\
Profile                           Type   State
a:b                               oauth  usable
openai-codex:someone@example.com  oauth  login needed since the provider refused
    fix: tokensink models auth login
"
        );
    }

    #[test]
    fn a_narrow_table_breaks_the_first_and_the_last_column() {
        let text = sample().render(&look(40));
        assert_eq!(
            text,
            "\
Profile          Type   State
a:b              oauth  usable
openai-codex:someone@example.com
                 oauth  login needed
                        since the
                        provider refused
    fix: tokensink models auth login
"
        );
    }

    #[test]
    fn colours_do_not_move_columns() {
        let coloured = Look {
            colour: true,
            ..look(60)
        };
        let mut table = Table::new(&["A", "B"]);
        table.row(vec![Cell::styled("x", colour::GOOD), "y".into()]);
        let text = table.render(&coloured);
        assert!(text.contains("\u{1b}[32mx\u{1b}[0m  y"), "{text:?}");
    }

    proptest! {
        #[test]
        fn wrapping_keeps_every_word(text in "[a-z ]{0,60}", width in 1_usize..30) {
            let lines = wrap(&text, width);
            let words: Vec<&str> = text.split_whitespace().collect();
            prop_assert_eq!(lines.join(" "), words.join(" "));
            for line in lines {
                prop_assert!(line.len() <= width || !line.trim().contains(' '), "{:?}", line);
            }
        }

        #[test]
        fn no_cell_is_cut(cells in proptest::collection::vec("[a-z:@.]{1,40}", 3), width in 40_usize..120) {
            let mut table = Table::new(&["Profile", "Type", "State"]);
            table.row(cells.iter().map(|cell| Cell::from(cell.clone())).collect());
            let text = table.render(&look(width));
            for cell in cells {
                prop_assert!(text.contains(&cell), "{} in\n{}", cell, text);
            }
        }
    }
}
