//! Just enough HTTP/1.1 for clients of the Hub.

use super::{Fault, World, api};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    /// By name in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

#[derive(Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn new(status: u16) -> Answer {
        Answer { status, ..Answer::default() }
    }

    pub fn json(value: &serde_json::Value) -> Answer {
        Answer::new(200).header("Content-Type", "application/json").body(value.to_string())
    }

    /// A refusal as the Hub words them.
    pub fn error(status: u16, code: &str, message: &str) -> Answer {
        let answer = Answer { body: serde_json::json!({"error": message}).to_string().into(), ..Answer::new(status) };
        let answer = answer.header("X-Error-Message", message);
        if code.is_empty() { answer } else { answer.header("X-Error-Code", code) }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Answer {
        self.body = body.into();
        self
    }
}

/// Answers the requests of a connection until it ends.
pub fn serve(stream: TcpStream, world: &(Mutex<World>, Condvar), url: &str) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let mut words = line.split_whitespace();
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        let (path, query) = (path.replace("%2F", "/"), query.to_owned());
        let mut request = Request { method, path, query, headers, body: Vec::new() };
        let line = format!("{} {}", request.method, request.path);
        let fault = {
            let mut world = world.0.lock().ok()?;
            // Addresses of the storage are long and random.
            let is_storage = line.contains("/storage/");
            world.log.push(if is_storage { line[..line.rfind('/')?].to_owned() } else { line.clone() });
            world.fault(&line)
        };
        if request.header("expect").eq_ignore_ascii_case("100-continue") {
            (&stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
        }
        if let Some(Fault::CutAfter(bytes) | Fault::HangAfter(bytes)) = fault {
            reader.by_ref().take(bytes as u64).read_to_end(&mut request.body).ok()?;
            if let Some(Fault::HangAfter(_)) = fault {
                let mut known = world.0.lock().ok()?;
                known.log.push(format!("hanging: {line}"));
                known.open -= 1; // it brings nothing any more
                drop(known);
                world.1.notify_all();
                std::thread::sleep(Duration::from_secs(120));
                world.0.lock().ok()?.open += 1;
            }
            return stream.shutdown(Shutdown::Both).ok();
        }
        request.body = body(&mut reader, &request.headers)?;
        let mut answer = match fault {
            Some(Fault::Answer(ref answer)) => answer.clone(),
            _ => api::answer(&request, &mut *world.0.lock().ok()?, url),
        };
        match fault {
            Some(Fault::Unanswered) => return stream.shutdown(Shutdown::Both).ok(),
            Some(Fault::Obeyed(instead)) => answer = instead,
            _ => {}
        }
        let mut head = format!("HTTP/1.1 {} x\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
        answer.headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        (&stream).write_all(format!("{head}\r\n").as_bytes()).ok()?;
        if request.method != "HEAD" {
            (&stream).write_all(&answer.body).ok()?;
        }
    }
}

fn body(reader: &mut impl BufRead, headers: &BTreeMap<String, String>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let length = u64::from_str_radix(line.trim(), 16).ok()?;
            reader.by_ref().take(length).read_to_end(&mut body).ok()?;
            reader.read_line(&mut String::new()).ok()?;
            if length == 0 {
                return Some(body);
            }
        }
    }
    let length: usize = headers.get("content-length").map_or(Some(0), |length| length.parse().ok())?;
    reader.take(length as u64).read_to_end(&mut body).ok()?;
    (body.len() == length).then_some(body)
}
