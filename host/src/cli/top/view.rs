//! How a sample looks, on the screen and as text.

use ratatui::backend::TestBackend;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Row, Table, TableState};
use ratatui::{Frame, Terminal};

use super::sample::Sample;
use crate::cli::ctl::tables;

/// Between two columns.
const SPACING: u16 = 2;

/// A table's cells, and how wide its columns are.
struct Cells {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    widths: Vec<u16>,
}

impl Cells {
    fn new(columns: Vec<String>, rows: Vec<Vec<String>>) -> Self {
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([columns[column].len()]).max().and_then(|width| width.try_into().ok())
        };
        let widths = (0..columns.len()).map(|column| width(column).unwrap_or(u16::MAX)).collect();
        Self { columns, rows, widths }
    }

    fn servers(sample: &Sample) -> Self {
        let rows = sample.status.servers.iter().map(|server| tables::server_row(server).into()).collect();
        Self::new(tables::SERVER_COLUMNS.map(str::to_owned).into(), rows)
    }

    /// As `ctl status` has them, with the rate before the counts.
    fn versions(sample: &Sample) -> Self {
        let with_rate = |cells: [String; 13], rate: String| {
            let mut cells = Vec::from(cells);
            cells.insert(tables::COUNTS_FROM, rate);
            cells
        };
        let rows = sample.versions().map(|(slot, version)| {
            with_rate(tables::version_row(slot, version), format!("{:.1}", sample.rate(slot, version)))
        });
        let columns = with_rate(tables::VERSION_COLUMNS.map(str::to_owned), "REQ/S".to_owned());
        Self::new(columns, rows.collect())
    }

    fn width(&self) -> u16 {
        let spaces = SPACING.saturating_mul(self.widths.len() as u16);
        self.widths.iter().fold(spaces, |sum, width| sum.saturating_add(*width))
    }

    /// With the line of its columns' names.
    fn height(&self) -> u16 {
        u16::try_from(self.rows.len() + 1).unwrap_or(u16::MAX)
    }

    fn into_table(self) -> Table<'static> {
        let row = |cells: Vec<String>| Row::new(cells.into_iter().map(Cell::from));
        Table::new(self.rows.into_iter().map(row), self.widths.into_iter().map(Constraint::Length))
            .header(row(self.columns).style(Style::new().bold()))
            .column_spacing(SPACING)
            .row_highlight_style(Style::new().reversed())
    }
}

/// Draws a sample; on the screen with the chosen version, of which there is more to see.
pub fn draw(frame: &mut Frame<'_>, sample: &Sample, chosen: Option<&mut TableState>) {
    let (servers, versions) = (Cells::servers(sample), Cells::versions(sample));
    let is_live = chosen.is_some();
    let mut none = TableState::default();
    let chosen = chosen.unwrap_or(&mut none);
    let details = if is_live { details(sample, chosen.selected()) } else { Vec::new() };
    let [headline, _, server_area, _, version_area, detail_area] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(servers.height()),
        Constraint::Length(1),
        Constraint::Min(versions.height().min(3)),
        Constraint::Length(details.len() as u16),
    ])
    .areas(frame.area());
    frame.render_widget(Line::from(headline_of(sample)), headline);
    frame.render_widget(servers.into_table(), server_area);
    frame.render_stateful_widget(versions.into_table(), version_area, chosen);
    frame.render_widget(Text::from(details), detail_area);
}

fn headline_of(sample: &Sample) -> String {
    format!("{}, {:.1} requests/s", tables::headline(&sample.status), sample.total_rate())
}

/// What has no column, and the keys.
fn details(sample: &Sample, chosen: Option<usize>) -> Vec<Line<'static>> {
    let keys = Line::from("q quits, up and down choose a version").dim();
    let Some((slot, version)) = chosen.and_then(|index| sample.versions().nth(index)) else {
        return vec![keys];
    };
    let mut lines = vec![Line::default()];
    lines.push(Line::from(tables::printable(format!(
        "{} {}: {} {}, since {}",
        slot.name, version.generation, version.handler, version.digest, version.since
    ))));
    lines.extend(tables::remarks(slot, version).into_iter().map(Line::from));
    lines.push(keys);
    lines
}

/// A sample as text, as large as it needs to be.
pub fn text(sample: &Sample) -> String {
    let (servers, versions) = (Cells::servers(sample), Cells::versions(sample));
    let width = servers.width().max(versions.width()).max(headline_of(sample).len() as u16);
    let height = servers.height().saturating_add(versions.height()).saturating_add(3);
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
    let Ok(drawn) = terminal.draw(|frame| draw(frame, sample, None));
    let lines = drawn.buffer.content.chunks(usize::from(width).max(1));
    let line = |cells: &[ratatui::buffer::Cell]| {
        let text: String = cells.iter().map(|cell| cell.symbol()).collect();
        text.trim_end().to_owned() + "\n"
    };
    lines.map(line).collect()
}
