//! What command lines come to: their options, and what is wrong with them.

use super::*;
use crate::timeline::Change;

fn run(line: &str) -> Result<Options, String> {
    match parse(line.split_whitespace().map(OsString::from)) {
        Ok(Command::Run(options)) => Ok(*options),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn without_options_the_default_job_is_run() {
    let options = run("").unwrap();
    assert_eq!(options.target, Target::Emulator);
    assert_eq!((options.shards, options.records, options.record_size), (4, Some(1_000_000), 100));
    assert_eq!((options.submitters, options.cores, options.verify), (2, 1, true));
    assert_eq!((options.rate_limit, options.pinning), (RateLimit::Percent(150), PINNING_DEFAULT));
}

#[test]
fn every_option_of_the_issue_is_known() {
    let options =
        run("--endpoint http://127.0.0.1:4567 --region eu-west-1 --stream s --shards 8 --records 1_000 --duration 5m \
         --record-size 1024 --keys 7 --submitters 3 --cores 2 --rate-limit off --wire json --no-verify \
         --runtime tokio --seed 9 --json out.json")
        .unwrap();
    assert_eq!(options.target, Target::Url("http://127.0.0.1:4567".to_owned()));
    assert_eq!((options.records, options.duration), (Some(1000), Some(Duration::from_secs(300))));
    assert_eq!((options.wire, options.rate_limit, options.seed), (WireFormat::Json, RateLimit::Off, 9));
    assert_eq!((options.runtime, run("").unwrap().runtime), (RuntimeChoice::Tokio, RuntimeChoice::Auto));
    for (line, pinning) in [("--pin auto", Pinning::Auto), ("--pin on", Pinning::On), ("--pin off", Pinning::Off)] {
        assert_eq!(run(line).unwrap().pinning, pinning);
    }
    for (line, idle) in [
        ("", IdleStrategy::Park),
        ("--idle park", IdleStrategy::Park),
        ("--idle spin", IdleStrategy::Spin),
        ("--idle spin:50us", IdleStrategy::SpinThenPark(Duration::from_micros(50))),
        ("--idle spin:1s", IdleStrategy::SpinThenPark(Duration::from_secs(1))),
    ] {
        assert_eq!(run(line).unwrap().idle, idle, "{line}");
    }
    let options = run("--input - --key-field user --records 10").unwrap();
    assert_eq!((options.input, options.key_field.as_deref()), (Some(Input::Stdin), Some("user")));
    assert_eq!(run("--sink --no-verify").unwrap().rate_limit, RateLimit::Off);
    assert_eq!((run("").unwrap().tls, run("--tls").unwrap().tls), (false, true));
    assert_eq!(run("--endpoint https://h --ca ca.pem").unwrap().ca, Some(PathBuf::from("ca.pem")));
    let options = run("--proxy http://me:hush@proxy:3128").unwrap();
    assert!(!format!("{options:?}").contains("hush"));
    assert_eq!(options.proxy, Some(ProxyUrl("http://me:hush@proxy:3128".to_owned())));
    assert!(run("--sink --no-verify --lateness --rate 10_000 --wire cbor").unwrap().lateness);
    assert_eq!(run("--sink --no-verify --rate-limit 100").unwrap().rate_limit, RateLimit::Percent(100));
}

#[test]
fn what_is_to_happen_is_put_in_the_order_of_time() {
    let options = run("--reshard 5s:merge,2s:split --kill 3s:1s --rate 1_000 --ordered --faults storm").unwrap();
    let s = Duration::from_secs;
    let events =
        vec![(s(2), Event::Reshard(Change::Split)), (s(3), Event::Kill(s(1))), (s(5), Event::Reshard(Change::Merge))];
    assert_eq!(options.timeline, Timeline { events, drawn: None });
    assert_eq!((options.rate, options.ordered, options.faults), (Some(1000), true, Some(Profile::Storm)));
    assert!(options.is_disturbed() && options.kills() && !run("").unwrap().is_disturbed());
    assert_eq!(run("--faults reshard --seed 8").unwrap().timeline.drawn, Some(8));
    assert_eq!(run("--faults reshard --reshard 1s:double").unwrap().timeline.drawn, None);
}

#[test]
fn a_duration_or_an_input_takes_the_place_of_the_default_count() {
    assert_eq!(run("--duration 2s").unwrap().records, None);
    assert_eq!(run("--input f").unwrap().records, None);
    assert_eq!(run("--input f --records 5").unwrap().records, Some(5));
}

#[test]
fn a_refusal_names_option_value_and_bound() {
    for (line, parts) in [
        ("--records 0", ["--records", "\"0\"", "from 1 to 1099511627776"]),
        ("--records many", ["--records", "\"many\"", "whole number"]),
        ("--record-size 15", ["--record-size", "\"15\"", "from 16 to 10485752"]),
        ("--shards 10001", ["--shards", "\"10001\"", "from 1 to 10000"]),
        ("--keys -1", ["--keys", "\"-1\"", "from 1 to 10000000"]),
        ("--submitters 5000", ["--submitters", "\"5000\"", "from 1 to 4092"]),
        ("--cores 0", ["--cores", "\"0\"", "from 1 to 256"]),
        ("--rate-limit 0", ["--rate-limit", "\"0\"", "from 1 to 100000, or off"]),
        ("--runtime smol", ["--runtime", "\"smol\"", "auto, glommio or tokio"]),
        ("--pin 3", ["--pin", "\"3\"", "auto, on or off"]),
        ("--idle doze", ["--idle", "\"doze\"", "park, spin, or spin:"]),
        ("--idle spin:0us", ["--idle", "\"spin:0us\"", "from 1us to 1s"]),
        ("--idle spin:1001ms", ["--idle", "\"spin:1001ms\"", "from 1us to 1s"]),
        ("--duration 3us", ["--duration", "\"3us\"", "from 1ms to 24h"]),
        ("--wire xml", ["--wire", "\"xml\"", "auto, cbor or json"]),
        ("--duration 3d", ["--duration", "\"3d\"", "from 1ms to 24h"]),
        ("--duration 0s", ["--duration", "\"0s\"", "from 1ms to 24h"]),
        ("--endpoint kinesis", ["--endpoint", "\"kinesis\"", "http://HOST"]),
        ("--proxy https://me:hush@h", ["--proxy", "\"h\"", "http://[USER:PASSWORD@]HOST"]),
        ("--rate 0", ["--rate", "\"0\"", "from 1 to 1000000000"]),
        ("--faults hail", ["--faults", "\"hail\"", "calm, storm, outage"]),
        ("--reshard 2s:cut", ["--reshard", "\"2s:cut\"", "TIME:split"]),
        ("--reshard split", ["--reshard", "\"split\"", "2s:split,5s:merge"]),
        ("--kill 3s", ["--kill", "\"3s\"", "3s:1s"]),
        ("--kill 3s:21s", ["--kill", "\"3s:21s\"", "at most 20s"]),
        ("--stream a/b", ["--stream", "\"a/b\"", "1 to 128"]),
    ] {
        let error = run(line).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{line}: {error}");
    }
}

#[test]
fn an_option_without_effect_is_refused() {
    for (line, option) in [
        ("--sink --no-verify --endpoint http://h", "--endpoint"),
        ("--sink", "--no-verify"),
        ("--tls --endpoint https://h", "--tls"),
        ("--ca ca.pem", "--ca"),
        ("--tls --ca ca.pem", "--ca"),
        ("--endpoint http://h --ca ca.pem", "--ca"),
        ("--endpoint https://h --ca", "--ca"),
        ("--endpoint http://h --faults calm", "--faults"),
        ("--endpoint http://h --kill 1s:1s", "--kill"),
        ("--sink --no-verify --faults calm", "--faults"),
        ("--sink --no-verify --reshard 1s:split", "--reshard"),
        ("--tls --kill 1s:1s", "--kill"),
        ("--key-field user", "--key-field"),
        ("--input f --record-size 20", "--record-size"),
        ("--input f --key-field user --keys 3", "--keys"),
        ("--lateness --rate 5", "--sink"),
        ("--lateness --sink --no-verify", "--rate"),
        ("--lateness --sink --no-verify --rate 5 --input f", "--lateness"),
        ("--lateness --sink --no-verify --rate 5 --wire json", "--lateness"),
        ("--frobnicate", "--frobnicate"),
        ("stray", "stray"),
        ("--records", "--records"),
    ] {
        let error = run(line).unwrap_err();
        assert!(error.contains(option), "{line}: {error}");
    }
}

#[test]
fn subcommands_have_options_of_their_own() {
    let parsed = |line: &str| parse(line.split_whitespace().map(OsString::from)).map_err(|error| error.to_string());
    let Ok(Command::Compare(options)) = parsed("compare --peer sdk --runs 3 --sizes 100,1_024 --tls on --records 9")
    else {
        panic!("a comparison");
    };
    assert_eq!((options.runs, options.sizes, options.records), (3, vec![100, 1024], Some(9)));
    let Ok(Command::Scaling(options)) = parsed("scaling --runs 1 --records 1_000 --tls --plot a.svg --json b") else {
        panic!("a scaling");
    };
    assert_eq!((options.runs, options.records, options.tls), (1, 1000, true));
    assert_eq!((options.plot, options.json), (Some("a.svg".into()), Some("b".into())));
    for (line, parts) in [
        ("compare --peer kcl", ["--peer", "\"kcl\"", "sdk"]),
        ("compare --sizes 100,0", ["--sizes", "\"100,0\"", "from 1 to 1048568"]),
        ("compare --tls maybe", ["--tls", "\"maybe\"", "both, on or off"]),
        ("compare --runs 0", ["--runs", "\"0\"", "from 1 to 1000"]),
        ("scaling --records 0", ["--records", "\"0\"", "from 1 to 4294967296"]),
    ] {
        let error = parsed(line).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{line}: {error}");
    }
    for line in ["compare --shards 3", "scaling compare", "--runs 3", "compare stray"] {
        assert!(parsed(line).is_err(), "{line}");
    }
    assert_eq!(parsed("scaling --help"), Ok(Command::Help));
}
