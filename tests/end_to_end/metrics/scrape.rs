//! Asks for what is served with metrics, and reads it.

use plugsock::ServeAddress;

use crate::harness::Client;

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn get(address: &ServeAddress, path: &str) -> Self {
        Self::ask(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    pub fn ask(address: &ServeAddress, request: &str) -> Self {
        let client = Client::connect(address);
        client.send(request.as_bytes());
        Self::read(&client)
    }

    /// All that comes until the end.
    pub fn read(client: &Client) -> Self {
        let answer = String::from_utf8(client.recv_all()).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    pub fn header(&self, name: &str) -> &str {
        let found = self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        found.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }
}

/// What a host has counted.
pub struct Scrape {
    pub text: String,
    samples: Vec<Sample>,
}

struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Scrape {
    pub fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{}", answer.head);
        let lines = answer.body.lines().filter(|line| !line.starts_with('#'));
        Self { samples: lines.map(Sample::read).collect(), text: answer.body.clone() }
    }

    /// The sum of what has these labels; `None` if nothing has.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let found: Vec<f64> = self.matching(name, labels).map(|sample| sample.value).collect();
        (!found.is_empty()).then(|| found.iter().sum())
    }

    /// All values that a label has.
    pub fn labels(&self, name: &str, label: &str) -> Vec<&str> {
        let all = self.matching(name, &[]).flat_map(|sample| &sample.labels);
        all.filter(|(key, _)| key == label).map(|(_, value)| value.as_str()).collect()
    }

    pub fn count(&self) -> usize {
        self.samples.len()
    }

    fn matching(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = &Sample> {
        let has = |sample: &Sample, (key, value): &(&str, &str)| {
            sample.labels.iter().any(|(other, its)| (other.as_str(), its.as_str()) == (*key, *value))
        };
        self.samples
            .iter()
            .filter(move |sample| sample.name == name && labels.iter().all(|label| has(sample, label)))
    }
}

impl Sample {
    /// `name{key="value",…} number`.
    fn read(line: &str) -> Self {
        let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        let (name, labels) = match sample.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix("\"}").unwrap()),
            None => (sample, ""),
        };
        let labels = labels.split("\",").filter(|label| !label.is_empty());
        let labels = labels.map(|label| {
            let (key, value) = label.split_once("=\"").unwrap();
            (key.to_owned(), value.to_owned())
        });
        Self { name: name.to_owned(), labels: labels.collect(), value: value.parse().unwrap() }
    }
}
