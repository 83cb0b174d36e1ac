//! The program as its user runs it, against the endpoint it embeds.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use endpoint::{Endpoint, EndpointConfig, Flaw, TlsOptions};
use serde_json::{Value, json};

use self::relay::{Manner, Relay};

#[path = "../../../tests/relay/mod.rs"]
mod relay;

/// A file of this test alone, removed when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        Scratch(std::env::temp_dir().join(format!("kpl-bench-{}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a temporary directory with a name in UTF-8")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A test that failed early may not have made it.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn bench(args: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kpl-bench"));
    // The credentials of an endpoint that a test starts itself, in the first place where AWS's chain looks.
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test").env_remove("AWS_SESSION_TOKEN");
    let command = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    // A run that does not read its input closes it.
    let _ = child.stdin.take().expect("piped").write_all(input);
    child.wait_with_output().expect("the program ends")
}

/// Runs it, expects a status, and returns the figures.
fn figures(name: &str, args: &[&str], input: &[u8], status: i32) -> Value {
    let json = Scratch::new(name);
    let output = bench(&[args, &["--json", json.path()]].concat(), input);
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    serde_json::from_slice(&std::fs::read(&json.0).expect("the figures")).expect("a JSON object")
}

fn refusal(args: &[&str], input: &[u8]) -> String {
    let output = bench(args, input);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

#[test]
fn generated_records_all_arrive_once_and_unharmed() {
    let args = ["--records", "20000", "--rate-limit", "off", "--shards", "3", "--keys", "100"];
    let figures = figures("generated", &args, b"", 0);
    for (field, value) in [
        ("records_requested", 20_000),
        ("records_put", 20_000),
        ("records_delivered", 20_000),
        ("records_failed", 0),
        ("records_lost", 0),
        ("records_duplicated", 0),
        ("records_corrupted", 0),
        ("shards", 3),
    ] {
        assert_eq!(figures[field], value, "{field}: {figures}");
    }
    assert!(figures["bytes_sent"].as_u64() > Some(20_000 * 100), "{figures}");
    assert!(figures["client_cpu_ns_per_record"].as_f64() > Some(0.0), "{figures}");
    assert!(figures["outcome_ms"]["max"].as_f64() > Some(0.0), "{figures}");
}

#[test]
fn lines_of_standard_input_arrive_under_the_keys_of_their_field() {
    let lines: String =
        (0..5000).map(|n| format!("{{\"text\":\"日本 {n}\",\"user\":\"Zoë {}\"}}\r\n", n % 9)).collect();
    let args = ["--input", "-", "--key-field", "user", "--rate-limit", "off"];
    let figures = figures("stdin", &args, lines.as_bytes(), 0);
    assert_eq!((&figures["records_put"], &figures["records_corrupted"]), (&5000.into(), &0.into()), "{figures}");
}

#[test]
fn lines_of_a_file_arrive_under_drawn_keys_empty_ones_too() {
    let file = Scratch::new("lines");
    std::fs::write(&file.0, "one\n\ntwo\n\n\nnot \u{1F980} ASCII\nlast").expect("a file");
    let figures = figures("file", &["--input", file.path(), "--wire", "json"], b"", 0);
    assert_eq!(figures["records_delivered"], 7, "{figures}");
}

#[test]
fn a_run_of_a_duration_puts_what_it_can() {
    let figures = figures("duration", &["--duration", "200ms"], b"", 0);
    assert!(figures["records_put"].as_u64() > Some(0), "{figures}");
    assert_eq!(figures["records_put"], figures["records_requested"]);
}

#[test]
fn a_sink_takes_everything_and_is_not_read() {
    let figures = figures("sink", &["--sink", "--no-verify", "--records", "20000", "--cores", "2"], b"", 0);
    assert_eq!((&figures["verified"], &figures["rate_limit"]), (&false.into(), &"off".into()), "{figures}");
}

#[test]
fn a_stream_that_was_there_is_used_again_and_kept_and_one_that_was_not_is_made_and_deleted() {
    let config = EndpointConfig { streams: vec![("there".to_owned(), 2)], ..EndpointConfig::emulator() };
    let endpoint = Endpoint::start(config).expect("an endpoint");
    let url = endpoint.url();
    let args = |stream| ["--endpoint", &*url, "--region", "us-east-1", "--records", "2000", "--stream", stream];
    for (name, stream, shards) in [("first", "there", 2), ("second", "there", 2), ("made", "not-there", 4)] {
        let figures = figures(name, &args(stream), b"", 0);
        assert_eq!(figures["shards"], shards, "{name}: {figures}");
    }
    let streams = endpoint.call("ListStreams", &json!({})).expect("a list");
    assert_eq!(streams["StreamNames"], json!(["there"]), "{streams}");
}

#[test]
fn an_endpoint_that_refuses_is_said_with_its_cause() {
    let endpoint = Endpoint::start(EndpointConfig::emulator()).expect("an endpoint");
    let (url, region) = (endpoint.url(), "eu-north-1");
    let refused = refusal(&["--endpoint", &url, "--region", region], b"");
    assert!(refused.contains("stream \"kpl-bench\"") && refused.contains("Exception"), "{refused}");
    drop(endpoint);
    let gone = refusal(&["--endpoint", &url, "--region", "us-east-1"], b"");
    assert!(gone.contains("Connection refused"), "{gone}");
}

#[test]
fn an_endpoint_over_tls_is_checked_with_the_roots_of_the_file() {
    let tls = TlsOptions::new().expect("a chain");
    let roots = Scratch::new("roots");
    std::fs::write(&roots.0, tls.ca_pem()).expect("a file");
    let endpoint = Endpoint::start(EndpointConfig { tls: Some(tls), ..EndpointConfig::emulator() });
    let url = endpoint.as_ref().expect("an endpoint").url();
    let args = ["--endpoint", &*url, "--region", "us-east-1", "--records", "2000", "--ca", roots.path()];
    let figures = figures("ca", &args, b"", 0);
    assert_eq!(figures["records_delivered"], 2000, "{figures}");
}

#[test]
fn everything_goes_through_the_proxy_that_is_named() {
    let tls = TlsOptions::flawed(Flaw::WrongHost).expect("a chain");
    let roots = Scratch::new("roots-behind-proxy");
    std::fs::write(&roots.0, tls.ca_pem()).expect("a file");
    let serve = |tls| Endpoint::start(EndpointConfig { tls, ..EndpointConfig::emulator() }).expect("an endpoint");
    // Names that only the proxy knows.
    for (endpoint, url, ca) in [
        (serve(None), "http://kinesis.test", &[][..]),
        (serve(Some(tls)), "https://elsewhere.test", &["--ca", roots.path()]),
    ] {
        let relay = Relay::start(endpoint.address(), Manner::default());
        let proxy = relay.url("Aladdin:open%20sesame");
        let args = [&["--endpoint", url, "--proxy", &proxy, "--region", "us-east-1", "--records", "2000"], ca].concat();
        // As RFC 7617 has it.
        relay.behave(Manner { demands: Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".to_owned()), says: None });
        let figures = figures("proxy", &args, b"", 0);
        assert_eq!(figures["records_delivered"], 2000, "{figures}");
        assert!(relay.heads().len() > 1, "{:?}", relay.heads());
    }
}

#[test]
fn roots_that_cannot_be_read_are_refused_before_the_run() {
    let file = Scratch::new("no-roots");
    let args = |ca| ["--endpoint", "https://127.0.0.1:1", "--region", "us-east-1", "--ca", ca];
    assert!(refusal(&args("no such file"), b"").contains("--ca is \"no such file\", which cannot be read"));
    for (bytes, reason) in [
        (&b""[..], "which holds no certificate in PEM"),
        (b"\xFF\x00 DER", "which cannot be read as PEM"),
        (b"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n", "whose certificate 1 cannot be read"),
    ] {
        std::fs::write(&file.0, bytes).expect("a file");
        let refused = refusal(&args(file.path()), b"");
        assert!(refused.contains("--ca is") && refused.contains(reason), "{refused}");
    }
}

#[test]
fn a_line_that_the_producer_refuses_fails_the_verdict() {
    let figures = figures("refused", &["--input", "-", "--key-field", "k"], b"{\"k\":\"a\"}\n{\"k\":\"\"}\n", 1);
    assert_eq!((&figures["records_put"], &figures["records_requested"]), (&1.into(), &2.into()), "{figures}");
    assert_eq!(figures["refusals"][0]["code"], "InvalidPartitionKey", "{figures}");
    let message = figures["refusals"][0]["first_message"].as_str().expect("text");
    assert!(message.contains("record 2"), "{message}");
}

#[test]
fn what_cannot_be_run_is_said_with_its_cause() {
    let missing = refusal(&["--input", "-", "--key-field", "user"], b"{\"user\":1}\n{\"name\":2}\n");
    assert!(missing.contains("line 2: field \"user\" is missing"), "{missing}");
    let absent = refusal(&["--input", "no such file"], b"");
    assert!(absent.contains("\"no such file\", which cannot be opened"), "{absent}");
    let json = refusal(&["--json", "no such directory/f"], b"");
    assert!(json.contains("\"no such directory/f\", which cannot be written"), "{json}");
    let option = refusal(&["--rate-limit", "150%"], b"");
    assert!(option.contains("--rate-limit is \"150%\""), "{option}");
}

/// What the figures say of attribution.
fn explained(figures: &Value) -> &Value {
    let attribution = &figures["attribution"];
    for field in [
        "duplicates_unattributed",
        "stored_though_failed_unattributed",
        "dropped_unattributed",
        "misplaced_unattributed",
    ] {
        assert_eq!(attribution[field], 0, "{field}: {figures}");
    }
    attribution
}

#[test]
fn in_a_storm_every_failure_and_every_duplicate_is_explained_in_the_clear_and_over_tls() {
    for (name, wire) in [("storm", &["--wire", "json"][..]), ("storm-tls", &["--tls"])] {
        let args = [&["--faults", "storm", "--seed", "3", "--duration", "4s", "--rate", "5000"], wire].concat();
        let figures = figures(name, &args, b"", 0);
        let attribution = explained(&figures);
        let struck = attribution["injected"].as_object().expect("kinds");
        assert!(struck.len() > 3, "{figures}");
        assert!(attribution["records_resent"].as_u64() > Some(0), "{figures}");
        assert_eq!((&figures["records_lost"], &figures["records_corrupted"]), (&0.into(), &0.into()), "{figures}");
        let accounted = ["records_delivered", "records_failed"].iter().map(|field| figures[field].as_u64()).sum();
        assert_eq!(figures["records_put"].as_u64(), accounted, "{figures}");
    }
}

#[test]
fn lines_are_explained_one_by_one_too() {
    let lines: String = (0..20_000).map(|n| format!("{{\"user\":\"{}\",\"n\":{}}}\n", n % 9, n % 15_000)).collect();
    let args = ["--input", "-", "--key-field", "user", "--rate", "8000", "--faults", "storm", "--seed", "10"];
    let figures = figures("storm-of-lines", &args, lines.as_bytes(), 0);
    assert!(explained(&figures)["duplicates_attributed"].as_u64() > Some(0), "{figures}");
}

#[test]
fn shards_are_split_and_merged_while_records_are_put_and_nothing_is_in_a_wrong_shard() {
    let args = ["--reshard", "500ms:split,1s:merge,1500ms:double", "--duration", "3s", "--rate", "3000"];
    let figures = figures("reshard", &args, b"", 0);
    assert_eq!(explained(&figures)["reshards"], 3, "{figures}");
    let reshards = figures["reshards"].as_array().expect("a list");
    let names: Vec<_> = reshards.iter().map(|reshard| reshard["change"].as_str()).collect();
    assert_eq!(names, [Some("split"), Some("merge"), Some("double")]);
    assert!(reshards.iter().all(|reshard| reshard["list_shards_calls"].is_u64()), "{figures}");
    assert_eq!((&figures["records_lost"], &figures["records_duplicated"]), (&0.into(), &0.into()), "{figures}");
}

#[test]
fn in_ordered_mode_nothing_overtakes() {
    let args =
        ["--ordered", "--records", "5000", "--keys", "20", "--reshard", "300ms:split,900ms:merge", "--rate", "3000"];
    let figures = figures("ordered", &args, b"", 0);
    assert_eq!((&figures["ordered"], &figures["records_out_of_order"]), (&true.into(), &0.into()), "{figures}");
}

#[test]
fn an_endpoint_that_is_killed_and_comes_back_has_everything() {
    let args = ["--kill", "1s:500ms", "--duration", "3s", "--rate", "1000", "--record-size", "50"];
    let figures = figures("kill", &args, b"", 0);
    assert_eq!(explained(&figures)["kills"], 1, "{figures}");
    let attempts = explained(&figures)["attempts"].as_array().expect("a list");
    assert!(attempts.iter().any(|attempt| attempt["code"] == "Connect" || attempt["code"] == "Reset"), "{figures}");
    assert_eq!((&figures["records_lost"], &figures["records_failed"]), (&0.into(), &0.into()), "{figures}");
}

#[test]
fn what_comes_too_late_to_happen_is_said() {
    for option in [["--reshard", "1h:split"], ["--kill", "1h:1s"]] {
        let refused = refusal(&[&option[..], &["--records", "1000"]].concat(), b"");
        assert!(refused.contains("was over before") && refused.contains(option[0]), "{refused}");
    }
    let one = refusal(&["--shards", "1", "--reshard", "100ms:merge", "--duration", "1s", "--rate", "100"], b"");
    assert!(one.contains("--reshard merge") && one.contains("no two open shards"), "{one}");
}

#[test]
fn the_sink_tells_how_late_the_oldest_record_of_each_aggregate_was_and_the_bench_what_it_held() {
    let args = ["--sink", "--no-verify", "--lateness", "--rate", "2000", "--duration", "2s", "--shards", "2"];
    for (name, tls) in [("lateness", &[][..]), ("lateness-tls", &["--tls"])] {
        let figures = figures(name, &[&args[..], tls].concat(), b"", 0);
        let lateness = &figures["lateness_ms"];
        // Of two seconds the first does not count; in the other each shard sends every 100 ms, or more often.
        assert!(lateness["kinesis_records"].as_u64() > Some(5), "{figures}");
        let quantiles = ["min", "p50", "p99", "p999", "max"].map(|name| lateness[name].as_f64().expect("a number"));
        assert!(
            quantiles.is_sorted() && quantiles[0] > -lateness["linger_ms"].as_f64().expect("a number"),
            "{figures}"
        );
        let memory = &figures["memory"];
        let by_minute = memory["by_minute_mib"].as_array().expect("a list");
        assert!(by_minute.len() == 1 && memory["resident_max_mib"].as_f64() >= by_minute[0].as_f64(), "{figures}");
        assert!(memory["growth_mib_per_10_min"].is_null(), "{figures}");
    }
}

#[test]
fn many_threads_with_completions_of_their_own_never_starve_each_other() {
    // More than may be outstanding, so that who is ready must not keep what others wait for.
    let args = ["scaling", "--runs", "1", "--records", "150000"];
    assert_eq!(figures("many-threads", &args, b"", 0)["passed"], true);
}

#[test]
fn scaling_measures_every_point_and_draws_it() {
    let (plot, options) = (Scratch::new("plot"), ["--runs", "1", "--records", "200"]);
    let figures = figures("scaling", &[&["scaling"], &options[..], &["--plot", plot.path()]].concat(), b"", 0);
    let lines = figures["lines"].as_array().expect("a list");
    let points = |line: &Value| line["points"].as_array().expect("a list").clone();
    let values: Vec<(&str, Vec<u64>)> = (lines.iter())
        .map(|line| {
            let values = points(line).iter().filter_map(|point| point["value"].as_u64()).collect();
            (line["dimension"].as_str().expect("a name"), values)
        })
        .collect();
    let expected: [(&str, &[u64]); 4] = [
        ("cores", &[1, 2]),
        ("shards", &[1, 8, 64, 512, 4000]),
        ("submitters", &[1, 4, 16, 64]),
        ("streams", &[1, 10, 100]),
    ];
    assert_eq!(values, expected.map(|(name, values)| (name, values.to_vec())));
    for point in lines.iter().flat_map(points) {
        assert!(point["cpu_ns_per_record"]["min"].as_f64() > Some(0.0), "{point}");
        assert!(point["members_per_aggregate"].as_f64() >= Some(1.0), "{point}");
    }
    let svg = std::fs::read_to_string(&plot.0).expect("the plot");
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"), "{svg}");
}

#[test]
fn a_comparison_says_by_which_build_it_is_fair() {
    let refused = refusal(&["compare", "--peer", "sdk"], b"");
    let build = "cargo run --profile compare -p kpl-bench --features peer-sdk -- compare --peer sdk";
    assert!(refused.contains(build), "{refused}");
}

#[cfg(feature = "peer-sdk")]
#[test]
fn a_comparison_has_every_run_of_both_sides_and_what_they_delivered() {
    let args = ["compare", "--any-build", "--runs", "2", "--sizes", "100,10240", "--records", "1200"];
    let figures = figures("compare", &args, b"", 0);
    assert_eq!((&figures["passed"], &figures["fair_build"]), (&true.into(), &false.into()), "{figures}");
    let cases = figures["cases"].as_array().expect("a list");
    let described: Vec<_> = cases.iter().map(|case| (case["record_size"].as_u64(), case["tls"].as_bool())).collect();
    let all = [(100, true), (100, false), (10_240, true), (10_240, false)];
    assert_eq!(described, all.map(|(size, tls)| (Some(size), Some(tls))));
    for case in cases {
        let runs = case["runs"].as_array().expect("a list");
        assert_eq!(runs.iter().filter(|run| run["side"] == "sdk").count(), 2, "{case}");
        assert!(runs.len() == 4 && runs.iter().all(|run| run["records_delivered"] == 1200), "{case}");
        assert!(case["ours_over_sdk"]["median"].as_f64() > Some(0.0), "{case}");
        // The SDK's records go one by one; ours share entries.
        let entries = |run: &&Value| run["kinesis_records"].as_u64();
        let (ours, sdk): (Vec<_>, Vec<_>) = runs.iter().partition(|run| run["side"] == "ours");
        assert!(sdk.iter().all(|run| entries(run) == Some(1200)), "{case}");
        assert!(ours.iter().all(|run| entries(run) < Some(1200)), "{case}");
    }
    let questions: Vec<_> = figures["questions"].as_array().expect("a list").iter().collect();
    assert!(matches!(questions[..], [one] if one["record_size"] == 100), "{figures}");
}
