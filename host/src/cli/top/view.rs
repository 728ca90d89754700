//! How a sample looks, on the screen and as text.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Row, Table, TableState};

use super::sample::Sample;
use crate::cli::columns::Columns;
use crate::cli::ctl::tables;

fn servers(sample: &Sample, width: Option<usize>) -> Columns {
    tables::servers(&sample.status).fit(width, tables::COUNTS_FROM)
}

/// As `ctl status` has them, with the rate before the counts.
fn versions(sample: &Sample, width: Option<usize>) -> Columns {
    let with_rate = |cells: [String; 13], rate: String| {
        let mut cells = Vec::from(cells);
        cells.insert(tables::COUNTS_FROM, rate);
        cells
    };
    let rows = sample.versions().map(|(slot, version)| {
        with_rate(tables::version_row(slot, version), format!("{:.1}", sample.rate(slot, version)))
    });
    let columns = with_rate(tables::VERSION_COLUMNS.map(str::to_owned), "REQ/S".to_owned());
    let columns = Columns::new(std::iter::once(columns).chain(rows).collect());
    tables::fit_versions(columns, width)
}

/// How many lines they take.
fn height(columns: &Columns) -> u16 {
    u16::try_from(columns.rows.len()).unwrap_or(u16::MAX)
}

fn table(columns: Columns) -> Table<'static> {
    let row = |cells: Vec<String>| Row::new(cells.into_iter().map(Cell::from));
    let length = |width: usize| u16::try_from(width).unwrap_or(u16::MAX);
    let widths = columns.widths.into_iter().map(length).map(Constraint::Length);
    let mut rows = columns.rows.into_iter();
    let names = row(rows.next().unwrap_or_default()).style(Style::new().bold());
    Table::new(rows.map(row), widths)
        .header(names)
        .column_spacing(length(columns.spacing))
        .row_highlight_style(Style::new().reversed())
}

/// Draws a sample on the screen, with the chosen version, of which there is more to see.
pub fn draw(frame: &mut Frame<'_>, sample: &Sample, chosen: &mut TableState) {
    let width = Some(frame.area().width.into());
    let (servers, versions) = (servers(sample, width), versions(sample, width));
    let details = details(sample, chosen.selected());
    let [headline, _, server_area, _, version_area, detail_area] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(height(&servers)),
        Constraint::Length(1),
        Constraint::Min(height(&versions).min(3)),
        Constraint::Length(details.len() as u16),
    ])
    .areas(frame.area());
    frame.render_widget(Line::from(headline_of(sample)), headline);
    frame.render_widget(table(servers), server_area);
    frame.render_stateful_widget(table(versions), version_area, chosen);
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

/// A sample as text.
pub fn text(sample: &Sample, width: Option<usize>) -> String {
    let (servers, versions) = (servers(sample, width), versions(sample, width));
    format!("{}\n\n{}\n{}", headline_of(sample), servers.lines(width), versions.lines(width))
}
