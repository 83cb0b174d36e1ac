//! What `--help` prints: every option with its default, in the order in which a run meets them.

/// What `--help` prints.
pub const HELP: &str = "\
kpl-bench: puts records into a Kinesis stream, reads them back, and says what it cost and whether all arrived

Usage: kpl-bench [OPTIONS]
       kpl-bench compare [--peer sdk] [--runs N] [--sizes BYTES,...] [--tls both|on|off] [--records N] [--any-build]
                         [--json FILE]
       kpl-bench scaling [--runs N] [--records N] [--tls] [--plot FILE] [--json FILE]
With no options it starts an embedded endpoint as a child process, with a stream of 4 shards of its own.

Where to
  --endpoint URL        an endpoint that is there already; credentials come from AWS's default chain
  --region NAME         region to sign for (default: AWS's chain; us-east-1 where the endpoint is embedded)
  --stream NAME         the stream (default kpl-bench); created if it is not there, and deleted afterwards if so;
                        one that is there gets a marker record in each shard, behind which it is read back
  --shards N            shards of a stream that is created (default 4)
  --sink                an embedded endpoint that stores nothing: the client's own cost; with --no-verify
  --tls                 the embedded endpoint is spoken to over TLS, with a certificate made for the run
  --ca FILE             roots, in PEM, that the certificate of an https --endpoint is checked with, instead of the
                        machine's
  --proxy URL           the HTTP proxy to go through, http://[USER:PASSWORD@]HOST[:PORT] (default: none, whatever the
                        environment says)

What
  --records N           records to put (default 1000000 without --duration and --input)
  --duration TIME       stop putting after TIME: 500ms, 30s, 5m, 1h; with --records, whichever comes first
  --record-size BYTES   data of a generated record (default 100, at least 16)
  --keys N              distinct partition keys that are drawn (default 10000)
  --input FILE|-        each line is a record, without its line feed; an empty line is an empty record
  --key-field NAME      each line is a JSON object, and its field NAME, a string or a number, is the partition key
  --seed N              of keys, data and backoff (default 1)

How
  --submitters N        threads that put (default 2)
  --cores N             core threads of the producer (default 1)
  --runtime auto|glommio|tokio
                        what cores run on (default auto: glommio where io_uring is allowed)
  --pin auto|on|off     whether each core thread keeps to one CPU; the submitters are left alone (default on; auto
                        where threads cannot be pinned)
  --idle park|spin|spin:TIME
                        what a core does that has nothing to do: rest, spin, or spin for TIME (1us to 1s) and then rest
                        (default park)
  --rate-limit PERCENT|off
                        share of the shards' limits to use (default 150; off with --sink)
  --wire auto|cbor|json form of PutRecords (default auto)
  --rate N              put N records a second in all, whether or not they are taken (default: as fast as they are)
  --ordered             the producer keeps the records of a submitter and key in order; of generated ones that is
                        checked
  --lateness            with --sink and --rate: how long past its deadline a record's first byte is on the socket

What happens meanwhile
  --faults PROFILE      calm, storm, outage, throttle or reshard: the embedded endpoint resets, stalls, refuses, fails and
                        throttles as --seed has it. Then records may fail and be there twice, but each such record must
                        be explained by what was injected. reshard splits and merges shards besides
  --reshard TIME:WHAT,...
                        split the widest shard, merge two, double or halve them, so long after the first put:
                        2s:split,5s:merge
  --kill TIME:TIME      kill the embedded endpoint (SIGKILL) so long after the first put, and start it again after the
                        second time, with all that it had stored: 3s:1s

Afterwards
  --no-verify           do not read the stream back
  --json FILE           write the figures as one JSON object
  -h, --help            this text
  -V, --version         the version

compare: our producer and AWS's SDK (PutRecords) take turns at the same records, into the sink
  --runs N              of each side in each case (default 7)
  --sizes BYTES,...     data of a record, a case each (default 100,1024,10240)
  --tls both|on|off     over TLS, in the clear, or both (default both)
  --records N           of a run (default: as many as take a second or two)
  --any-build           measure also where the build has not optimised the SDK, and say so in the report
  --json FILE           every run, and all settings

scaling: what a record costs by cores, shards, submitters and streams, one at a time, into the sink
  --runs N              of each point (default 5)
  --records N           of a run (default 1000000)
  --tls                 over TLS
  --plot FILE           draw it, as SVG
  --json FILE           every point, and all settings

Exit status: 0 if every record requested was put, delivered and read back once and unharmed (with --faults, --reshard or
--kill: if every failure and every copy too many is explained by them); 1 if not; 2 if the run could not be made as asked.
";
