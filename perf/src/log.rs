//! Logs of histograms over time, as HdrHistogram's tools read them: one line for each interval and
//! tag, the histogram compressed and in base64.
//!
//! Source: HdrHistogram's log format 1.3, as `HistogramLogWriter` writes it; histograms in their V2
//! encoding, deflated.

use std::fmt;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use data_encoding::BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogIterator, IntervalLogWriter, IntervalLogWriterBuilder, LogEntry, Tag,
};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};

use crate::histogram::Latency;

/// Interval maxima are written in milliseconds, as the tools do; the histograms hold nanoseconds.
const NS_PER_MAX_UNIT: f64 = 1e6;

/// Turns histograms into the bytes of a log; one for each [`Writer`].
pub type Encoder = V2DeflateSerializer;

/// A log that is being written.
pub struct Writer<'a, W: Write>(IntervalLogWriter<'a, 'a, W, Encoder>);

/// One line of a log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// No comma, space or line break.
    pub tag: String,
    /// When the interval began, since the Unix epoch.
    pub start: Duration,
    pub length: Duration,
    pub latency: Latency,
}

/// The bytes are not a log, or one of other histograms than ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

impl<'a, W: Write> Writer<'a, W> {
    /// Begins a log of what goes on since `start`; each comment becomes a line.
    pub fn begin(
        out: &'a mut W,
        encoder: &'a mut Encoder,
        comments: &[&str],
        start: SystemTime,
    ) -> io::Result<Self> {
        let mut builder = IntervalLogWriterBuilder::new();
        builder.add_comment("[Histogram log format version 1.3]");
        for comment in comments {
            builder.add_comment(comment);
        }
        builder.with_start_time(start).with_max_value_divisor(NS_PER_MAX_UNIT);
        builder.begin_log_with(out, encoder).map(Self)
    }

    pub fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let tag = Tag::new(&entry.tag).ok_or_else(|| io::Error::other("a tag is one word"))?;
        let histogram = entry.latency.histogram();
        let written = self.0.write_histogram(histogram, entry.start, entry.length, Some(tag));
        written.map_err(|why| io::Error::other(why.to_string()))
    }
}

/// Every entry of a log, in its order; an entry without a tag has the empty one.
pub fn read(log: &[u8]) -> Result<Vec<Entry>, Malformed> {
    let mut deserializer = Deserializer::new();
    let mut entries = Vec::new();
    for line in IntervalLogIterator::new(log) {
        let line = line.map_err(|why| Malformed(format!("no histogram log: {why:?}")))?;
        let LogEntry::Interval(interval) = line else { continue };
        let bytes = BASE64.decode(interval.encoded_histogram().as_bytes());
        let bytes = bytes.map_err(|why| Malformed(format!("base64: {why}")))?;
        let histogram: Histogram<u64> = deserializer
            .deserialize(&mut &*bytes)
            .map_err(|why| Malformed(format!("a histogram: {why}")))?;
        entries.push(Entry {
            tag: interval.tag().map(|tag| tag.as_str().to_owned()).unwrap_or_default(),
            start: interval.start_timestamp(),
            length: interval.duration(),
            latency: Latency::from_histogram(histogram)
                .ok_or_else(|| Malformed("a histogram of another range than ours".to_owned()))?,
        });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buckets::{Scale, page};

    fn written(entries: &[Entry]) -> Vec<u8> {
        let (mut out, mut encoder) = (Vec::new(), Encoder::new());
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let mut log = Writer::begin(&mut out, &mut encoder, &["nanoseconds"], start).unwrap();
        entries.iter().for_each(|entry| log.write(entry).unwrap());
        out
    }

    fn entry(tag: &str, second: u64, latency: Latency) -> Entry {
        let start = Duration::from_secs(1_800_000_000 + second);
        Entry { tag: tag.to_owned(), start, length: Duration::from_secs(1), latency }
    }

    #[test]
    fn what_is_written_reads_back_whatever_its_precision() {
        let (mut writer, reader) = page([Scale::new(2), Scale::new(3)]);
        for index in 0..2 {
            (1..5_000).for_each(|n| writer.record(index, n * n * 7, n % 3));
        }
        let entries = [
            entry("two-digits", 0, reader.latency(0).unwrap()),
            entry("three-digits", 1, reader.latency(1).unwrap()),
            entry("nothing", 1, Latency::new()),
        ];
        let log = written(&entries);
        let text = String::from_utf8(log.clone()).unwrap();
        assert!(text.starts_with("#[Histogram log format version 1.3]\n#nanoseconds\n"), "{text}");
        assert!(text.contains("#[StartTime: 1800000000.000 (seconds since epoch)]"), "{text}");
        assert!(text.contains("\nTag=two-digits,1800000000.000,1.000,"), "{text}");
        let read = read(&log).unwrap();
        assert_eq!(read.len(), entries.len());
        for (read, entry) in read.iter().zip(&entries) {
            assert_eq!(read.latency.histogram(), entry.latency.histogram(), "{}", entry.tag);
            let times = |entry: &Entry| (entry.tag.clone(), entry.start, entry.length);
            assert_eq!(times(read), times(entry));
        }
    }

    #[test]
    fn what_is_no_log_of_ours_says_so() {
        let mut other = Histogram::<u64>::new_with_bounds(1, 1_000, 3).unwrap();
        other.record(5).unwrap();
        let (mut out, mut encoder) = (Vec::new(), Encoder::new());
        let mut log =
            IntervalLogWriterBuilder::new().begin_log_with(&mut out, &mut encoder).unwrap();
        log.write_histogram(&other, Duration::ZERO, Duration::ZERO, None).unwrap();
        let whole = written(&[entry("a", 0, Latency::new())]);
        let cases: [(&[u8], &str); 5] = [
            (&out, "another range"),
            (b"hello\n", "no histogram log"),
            (b"Tag=a,1.0,1.0,1.0,***\n", "base64"),
            (b"Tag=a,1.0,1.0,1.0,SElTVA==\n", "a histogram"),
            (&whole[..whole.len() - 9], "no histogram log"),
        ];
        for (log, expected) in cases {
            let said = read(log).map(|_| ()).unwrap_err().to_string();
            assert!(said.starts_with(expected) || said.contains(expected), "{said}");
        }
        assert!(read(b"").unwrap().is_empty());
    }

    #[test]
    fn a_tag_of_two_words_is_refused() {
        let (mut out, mut encoder) = (Vec::new(), Encoder::new());
        let mut log = Writer::begin(&mut out, &mut encoder, &[], SystemTime::UNIX_EPOCH).unwrap();
        assert!(log.write(&entry("two words", 0, Latency::new())).is_err());
    }
}
