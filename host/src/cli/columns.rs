//! Text in columns, no wider than it may be.

use ratatui::text::Span;

/// The least that is left of a cell.
const CELL_MIN: usize = 4;

/// What stands for what is missing.
const ELLIPSIS: char = '…';

/// Rows of cells, the first of which has the columns' names.
#[derive(Clone, Debug)]
pub struct Columns {
    pub rows: Vec<Vec<String>>,
    pub widths: Vec<usize>,
    /// Between two columns.
    pub spacing: usize,
}

impl Columns {
    pub fn new(rows: Vec<Vec<String>>) -> Self {
        let count = rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            rows.iter().map(|row: &Vec<String>| width(&row[column])).max().unwrap_or_default()
        };
        let widths = (0..count).map(width).collect();
        Self { rows, widths, spacing: 2 }
    }

    pub fn width(&self) -> usize {
        let spaces = self.spacing * self.widths.len().saturating_sub(1);
        self.widths.iter().sum::<usize>() + spaces
    }

    /// Fits them into as many columns of the terminal, if that can be: first there is less space between them, and then those
    /// before `counts`, which have words, give way, the widest first.
    pub fn fit(mut self, width: Option<usize>, counts: usize) -> Self {
        let Some(max) = width.filter(|max| self.width() > *max) else { return self };
        self.spacing = 1;
        while self.width() > max {
            let words = self.widths[..counts].iter_mut().filter(|width| **width > CELL_MIN);
            let Some(widest) = words.max() else { break };
            *widest -= 1;
        }
        for row in &mut self.rows {
            for (cell, width) in row.iter_mut().zip(&self.widths) {
                *cell = cut(cell, *width);
            }
        }
        self
    }

    /// A line each; what does not fit all the same is cut off.
    pub fn lines(&self, width: Option<usize>) -> String {
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&self.widths).map(|(cell, width)| padded(cell, *width));
            let line = cells.collect::<Vec<_>>().join(&" ".repeat(self.spacing));
            width.map_or(line.clone(), |width| cut(&line, width)).trim_end().to_owned() + "\n"
        };
        self.rows.iter().map(line).collect()
    }
}

fn padded(cell: &str, to: usize) -> String {
    format!("{cell}{}", " ".repeat(to.saturating_sub(width(cell))))
}

/// How many columns of a terminal a text takes.
fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// As much of a text as fits, with an ellipsis if that is not all.
fn cut(text: &str, max: usize) -> String {
    if width(text.trim_end()) <= max {
        return text.to_owned();
    }
    let mut kept = String::new();
    for character in text.chars() {
        if width(&kept) + width(character.encode_utf8(&mut [0; 4])) + 1 > max {
            break;
        }
        kept.push(character);
    }
    kept.push(ELLIPSIS);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Columns {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        Columns::new(vec![row(["ADDRESS", "SLOT", "OPEN"]), row(["tcp://127.0.0.1:10001", "hello", "12345"])])
    }

    #[test]
    fn what_fits_is_left_alone() {
        let text = "ADDRESS                SLOT   OPEN\ntcp://127.0.0.1:10001  hello  12345\n";
        for width in [None, Some(35)] {
            assert_eq!(columns().fit(width, 2).lines(width), text);
        }
    }

    #[test]
    fn words_give_way_to_counts_and_no_line_is_longer_than_it_may_be() {
        let fitted = |width| columns().fit(Some(width), 2).lines(Some(width));
        assert_eq!(fitted(34), "ADDRESS               SLOT  OPEN\ntcp://127.0.0.1:10001 hello 12345\n");
        assert_eq!(
            fitted(20),
            "ADDRESS SLOT  OPEN\ntcp://… hello 12345\n"
                .replace("tcp://…", "tcp://1…")
                .replace("ADDRESS ", "ADDRESS  ")
        );
        assert_eq!(fitted(15), "ADD… SLOT OPEN\ntcp… hel… 12345\n");
        assert_eq!(fitted(12), "ADD… SLOT O…\ntcp… hel… 1…\n");
    }

    #[test]
    fn wide_characters_count_as_wide() {
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(padded("日", 3), "日 ");
    }
}
