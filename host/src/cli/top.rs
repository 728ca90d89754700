//! `plugsock top`: how a server's requests go, live in the terminal.

mod sample;
mod view;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use plugsock::control::{Answer, Command, ControlClient, Status};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::widgets::TableState;

use super::ctl::{WhichServer, unexpected};
use super::options::parse_duration;
use super::output;
use sample::Sample;

/// Watch how a server's requests go, version by version
///
/// Requests a second, latencies, failures and limits hit. The arrow keys choose a version to see more of, and q
/// quits. Where standard output is no terminal, one table is printed.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  plugsock top
  plugsock top --control 4711 --interval 5s
  plugsock top --once

Exit status: as that of `plugsock ctl`.")]
pub struct Top {
    #[command(flatten)]
    which: WhichServer,

    /// How often to look
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,

    /// Print one table of what happens within the interval, and end
    #[arg(long)]
    once: bool,

    /// Print that as JSON: what `plugsock ctl status` says, with requests a second of each version
    #[arg(long)]
    json: bool,
}

/// The server leaves a client that says nothing for much longer.
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(20);

fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        interval if INTERVALS.contains(&interval) => Ok(interval),
        _ => Err("write a time from 100ms to 20s".to_owned()),
    }
}

impl Top {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut client = self.which.connect()?;
        let first = Sample::first(status(&mut client)?);
        if self.once || self.json || !std::io::stdout().is_terminal() {
            thread::sleep(self.interval);
            let sample = first.next(status(&mut client)?);
            match self.json {
                true => output::print_json(&sample.report())?,
                false => output::print(&view::text(&sample, output::width()))?,
            }
            return Ok(ExitCode::SUCCESS);
        }
        let mut terminal = ratatui::try_init()?;
        let watched = watch(&mut terminal, &mut client, first, self.interval);
        ratatui::restore();
        watched.map(|()| ExitCode::SUCCESS)
    }
}

fn status(client: &mut ControlClient) -> anyhow::Result<Status> {
    match client.ask(&Command::Status {})? {
        Answer::Status(status) => Ok(status),
        other => unexpected(&other),
    }
}

/// Looks again and again, until the user has seen enough.
fn watch(
    terminal: &mut DefaultTerminal,
    client: &mut ControlClient,
    mut sample: Sample,
    interval: Duration,
) -> anyhow::Result<()> {
    let mut chosen = TableState::default().with_selected(0);
    let mut next = Instant::now() + interval;
    loop {
        terminal.draw(|frame| view::draw(frame, &sample, &mut chosen))?;
        if event::poll(next.saturating_duration_since(Instant::now()))? {
            match event::read()? {
                Event::Key(key) if is_quit(&key) => return Ok(()),
                Event::Key(KeyEvent { code, kind: KeyEventKind::Press, .. }) => match code {
                    KeyCode::Up => chosen.select_previous(),
                    KeyCode::Down => chosen.select_next(),
                    KeyCode::Home => chosen.select_first(),
                    KeyCode::End => chosen.select_last(),
                    _ => {}
                },
                // A resized terminal is drawn anew like any other.
                _ => {}
            }
        } else {
            sample = sample.next(status(client)?);
            next = Instant::now() + interval;
        }
    }
}

fn is_quit(key: &KeyEvent) -> bool {
    let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    is_interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
}
