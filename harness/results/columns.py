"""The columns of a run's tables: what they are called, hold, and mean."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from harness.results.axes import AXES
from harness.results.schema import SCHEMA_VERSION

_NO_JUDGE = "not attacked, or no other trained network is installed: pip install 'splitbench[weights]'"
_TOLD_APART = "not measured, or by an older splitbench: {} holds it"
_UNITS = {"ms": "ms", "db": "dB", "bytes": "kB"}


class Column(NamedTuple):
    """One column of a table: the documentation's tables are made from these.

    Attributes:
        heading: what a report writes above it, in front of its unit; None: its name.
    """

    name: str
    type: pa.DataType
    meaning: str
    empty_when: str = ""
    heading: str | None = None

    @property
    def unit(self) -> str:
        """What a report shows it in, as the name's end says: "ms", "dB", or "kB" (1000 bytes) for bytes."""
        return _UNITS.get(self.name.rpartition("_")[2], "")

    @property
    def title(self) -> str:
        """What stands above it: for instance "transfer ms"."""
        return f"{self.name if self.heading is None else self.heading} {self.unit}".strip()

    @property
    def is_text(self) -> bool:
        """Whether it holds names rather than numbers."""
        return bool(self.type == pa.string())


SAMPLES = (
    Column("cell", pa.string(), "content hash of the cell"),
    Column("round", pa.int32(), "round, from 0"),
    Column(
        "loop",
        pa.string(),
        "warmup or head: the compute-only loop on the reference picture; shipping: the second loop; "
        "profile: of a survey program, up to this output; survey: what that program shipped",
    ),
    Column("iteration", pa.int32(), "place within its loop, from 0"),
    Column("picture", pa.string(), "held-out picture", "warmup, head and profile"),
    Column(
        "head_ns",
        pa.int64(),
        "head time on the device's clock, nanoseconds; profile: the operators that the head needs, as profiled, "
        "not scaled and not a head's time alone",
        "survey, and split 0 in warmup and head",
    ),
    Column(
        "encode_ns",
        pa.int64(),
        "building the frame, nanoseconds",
        "warmup, head and profile; in runs of an older splitbench, where transfer_ns holds it",
    ),
    Column(
        "transfer_ns",
        pa.int64(),
        "from the first byte's sending to `received`, nanoseconds",
        "warmup, head and profile",
    ),
    Column(
        "decode_ns",
        pa.int64(),
        "reading the activation, on the workstation's clock, nanoseconds",
        "warmup, head and profile; in runs of an older splitbench, where tail_ns holds it",
    ),
    Column(
        "tail_ns",
        pa.int64(),
        "from `received` to `answer`, without decode_ns, nanoseconds",
        "warmup, head and profile",
    ),
    Column("end_to_end_ns", pa.int64(), "from picture in to `answer`, nanoseconds", "every loop but shipping"),
    Column("wire_bytes", pa.int64(), "bytes of the frame that travelled", "warmup, head and profile"),
)

ROUNDS = (
    Column("cell", pa.string(), "content hash of the cell"),
    Column("round", pa.int32(), "round, from 0"),
    Column("status", pa.string(), "ok or failed"),
    Column("reason", pa.string(), "why it failed", "ok"),
    Column("load_ns", pa.int64(), "time to load the program, nanoseconds", "failed, split 0"),
    Column("max_abs_err", pa.float64(), "largest error against the expected activation (int8: in steps)", "split 0"),
    Column("cosine", pa.float64(), "cosine against the expected activation", "split 0"),
    Column("verified", pa.bool_(), "did the output match before timing began?", "split 0"),
    Column("peak_rss_bytes", pa.int64(), "largest memory of the runner's process", "failed"),
    Column("timer_resolution_ns", pa.int64(), "smallest step of the device's clock", "failed"),
    Column("overhead_ns", pa.int64(), "what the runner's own loop adds to each sample", "failed"),
    Column(
        "energy_mj", pa.float64(), "energy of one head, measured in a loop of its own", "the device does not tell it"
    ),
    *(
        Column(f"{name}_{when}", kind, f"{meaning}, {when} the cell", "the device does not tell it")
        for when in ("before", "after")
        for name, kind, meaning in (
            ("temperature_c", pa.float64(), "hottest CPU or SoC zone"),
            ("frequency_khz", pa.int64(), "frequency of the fastest core"),
            ("governor", pa.string(), "frequency governor"),
            ("throttled", pa.bool_(), "was the device throttled"),
            ("load", pa.float64(), "load of the last minute"),
            ("available_bytes", pa.int64(), "available memory"),
            ("battery_percent", pa.int64(), "battery level"),
        )
    ),
)

LEAKAGE = (
    Column("cell", pa.string(), "content hash of the cell"),
    Column("attack", pa.string(), "name of the attack"),
    Column("picture", pa.string(), "held-out picture"),
    Column("source", pa.string(), "its source photograph: pictures of one source are not independent"),
    Column(
        "psnr_db", pa.float64(), "PSNR of the reconstruction on [0, 1], capped at 60 dB; higher: more was recovered"
    ),
    Column("ssim", pa.float64(), "structural similarity of the reconstruction; higher: more was recovered"),
    Column("floor_psnr_db", pa.float64(), "PSNR of the training mean picture, which needs no activation"),
    Column("oracle_mean_colour_psnr_db", pa.float64(), "PSNR of an oracle who knows the picture's mean colour"),
    Column("agreement_top1", pa.bool_(), "does the network see the same class in reconstruction and picture?"),
    Column("judge_top1", pa.bool_(), "does the independent judge?", _NO_JUDGE),
    Column("judge_similarity", pa.float64(), "cosine of its features of reconstruction and picture", _NO_JUDGE),
)

SUMMARY = (
    Column("run_id", pa.string(), "the run"),
    Column("cell", pa.string(), "content hash of the cell"),
    Column("model", pa.string(), "network"),
    Column("weights", pa.string(), "where the weights come from; random ones leak otherwise than trained ones"),
    Column("trained", pa.bool_(), "was the network trained?"),
    Column(
        "weights_sha256",
        pa.string(),
        "over all that decides the network's numbers: its operations and every parameter, buffer and constant they use",
    ),
    Column("input_size", pa.string(), "height x width in pixels"),
    Column("split_index", pa.int64(), "place among all split points; 0: the picture itself travels", heading="#"),
    Column("split", pa.string(), "module path that the head ends in"),
    Column("op", pa.string(), "operation that makes the activation"),
    Column("activation_shape", pa.string(), "with its batch dimension of 1", heading="activation"),
    Column("device", pa.string(), "where the head ran"),
    Column("emulated", pa.bool_(), "is its processor emulated? Its times mean nothing then"),
    Column("backend", pa.string(), "what executed it; none at split 0"),
    Column("precision", pa.string(), "of the head: fp32 or int8"),
    Column("codec", pa.string(), "how the activation travelled: uint8, fp32 or int8"),
    Column("threads", pa.int64(), "threads of the head"),
    Column("affinity", pa.string(), "cores that the head was allowed: all, big, little or a mask"),
    Column("link", pa.string(), "what the activation travelled over; a shaped one is called so"),
    Column("head_params", pa.int64(), "parameters of the head"),
    Column("head_macs", pa.int64(), "multiply-accumulates of the head"),
    Column(
        "delegated_share",
        pa.float64(),
        "share of them that XNNPACK took over",
        "no head, or a head without any",
        heading="delegated",
    ),
    Column("pte_bytes", pa.int64(), "size of the program", "split 0, or it could not be exported"),
    Column("load_ms", pa.float64(), "median time to load the program", "split 0, or not measured"),
    Column(
        "head_source",
        pa.string(),
        "measured, or profiled: estimated from a survey, see docs/survey.md",
        "neither measured nor profiled",
    ),
    Column(
        "head_p50_ms",
        pa.float64(),
        "median head time, every round counting alike; split 0: 0",
        "neither measured nor profiled",
        heading="head",
    ),
    Column("head_p90_ms", pa.float64(), "90th percentile of head times", "not measured", heading="p90"),
    Column("head_p99_ms", pa.float64(), "99th percentile of head times", "not measured"),
    *(
        Column(
            f"head_ci95_{end}_ms",
            pa.float64(),
            "95 % interval of the median, rounds resampled; profiled: the estimate's interval",
            "measured in fewer than 2 rounds",
            heading=heading,
        )
        for end, heading in (("low", "from"), ("high", "to"))
    ),
    Column("rounds", pa.int64(), "finished rounds"),
    Column("iterations", pa.int64(), "timed iterations over all rounds, warm-ups left out"),
    Column("peak_rss_bytes", pa.int64(), "largest memory of the runner's process", "not measured"),
    Column("activation_bytes", pa.int64(), "bytes of the activation as it travels"),
    Column(
        "wire_bytes",
        pa.float64(),
        "bytes of the frame that travelled, mean over the pictures",
        "not measured",
        heading="",
    ),
    Column("wire_bytes_max", pa.int64(), "bytes of the largest", "not measured", heading="largest"),
    Column(
        "encode_p50_ms",
        pa.float64(),
        "median of building the frame",
        _TOLD_APART.format("transfer_p50_ms"),
        heading="encode",
    ),
    Column("transfer_p50_ms", pa.float64(), "median of sending until `received`", "not measured", heading="transfer"),
    Column(
        "decode_p50_ms",
        pa.float64(),
        "median of reading the activation on the workstation",
        _TOLD_APART.format("tail_p50_ms"),
        heading="decode",
    ),
    Column(
        "tail_p50_ms",
        pa.float64(),
        "median from `received` to `answer`, without decoding",
        "not measured",
        heading="tail",
    ),
    Column("tail_engine", pa.string(), "what finished the network on the workstation, see docs/tails.md", "not told"),
    Column("tail_threads", pa.int64(), "threads that it computed on", "not told"),
    Column("tail_reason", pa.string(), "why it is not the engine that was asked for or chosen", "it is"),
    Column(
        "end_to_end_p50_ms",
        pa.float64(),
        "median from picture in to `answer`; profiled rows: the sum of its parts",
        "not measured",
        heading="end to end",
    ),
    Column("modelled_link", pa.string(), "the link that the next two columns are modelled for", "none was asked for"),
    Column(
        "modelled_transfer_ms", pa.float64(), "round trip + bytes at the modelled link's rate", "none was asked for"
    ),
    Column(
        "modelled_end_to_end_ms",
        pa.float64(),
        "end to end with that in place of the measured transfer",
        "likewise",
        heading="modelled end",
    ),
    Column("energy_mj", pa.float64(), "energy of one head, from a loop of its own", "energy_reason says why"),
    Column("energy_reason", pa.string(), "why energy_mj is empty", "it is not, or nothing was measured"),
    Column("temperature_c", pa.float64(), "highest before or after a round", "the device does not tell it"),
    Column(
        "throttled", pa.bool_(), "was the device throttled before or after any round?", "the device does not tell it"
    ),
    Column("unstable", pa.bool_(), "medians of the rounds differ by more than 10 %", "fewer than 2 rounds"),
    Column("verified", pa.bool_(), "did the head's output match before timing began?", "split 0, or not measured"),
    Column("max_abs_err", pa.float64(), "largest error against the expected activation (int8: in steps)", "split 0"),
    Column("cosine", pa.float64(), "cosine against the expected activation", "split 0"),
    Column("attack", pa.string(), "name of the attack", "none was asked for"),
    Column("budget_s", pa.float64(), "time that the attack was given", "it needs none"),
    Column("train_pictures", pa.int64(), "the receiver's own pictures that it learned from", "not attacked"),
    Column("train_seconds", pa.float64(), "time that it took to learn", "not attacked"),
    Column("pictures", pa.int64(), "held-out pictures that it was judged on", "not attacked"),
    Column(
        "psnr_db",
        pa.float64(),
        "mean PSNR over the pictures; higher: more was recovered",
        "not attacked",
        heading="PSNR",
    ),
    Column(
        "psnr_worst_db",
        pa.float64(),
        "PSNR of the best-rebuilt picture: its owner's worst case",
        "not attacked",
        heading="worst",
    ),
    Column(
        "psnr_ci95_low_db",
        pa.float64(),
        "95 % interval of the mean, sources resampled",
        "fewer than 2 sources",
        heading="from",
    ),
    Column(
        "psnr_ci95_high_db",
        pa.float64(),
        "95 % interval of the mean, sources resampled",
        "fewer than 2 sources",
        heading="to",
    ),
    Column(
        "ssim", pa.float64(), "mean structural similarity; higher: more was recovered", "not attacked", heading="SSIM"
    ),
    Column("floor_psnr_db", pa.float64(), "mean PSNR of the training mean picture", "not attacked"),
    Column(
        "oracle_mean_colour_psnr_db", pa.float64(), "mean PSNR of an oracle who knows the mean colour", "not attacked"
    ),
    Column(
        "feature_residual", pa.float64(), "relative distance of the reconstruction's activation", "not optimised for"
    ),
    Column(
        "search_residual",
        pa.float64(),
        "the same of what the attack's search found, before it was mixed with anything",
        "there was no search",
        heading="search residual",
    ),
    Column("search_failed", pa.bool_(), "is that above 0.4, so that no such picture was found?", "there was no search"),
    Column("converged", pa.bool_(), "had the attack converged?", "not iterative"),
    Column("cut_short", pa.bool_(), "did its budget end the attack before it would have ended itself?", "not attacked"),
    Column(
        "weakly_attacked",
        pa.bool_(),
        "was linear alone tried, and stays it within 3 dB of the floor?",
        "not attacked",
    ),
    Column("chosen", pa.string(), "which attack it took, for best", "it does not choose"),
    Column(
        "agreement_top1",
        pa.float64(),
        "share of reconstructions in which the network sees the same class",
        "not attacked",
        heading="same class",
    ),
    Column("judge", pa.string(), "the independent judge: another trained network than the attacked one", _NO_JUDGE),
    Column(
        "judge_top1",
        pa.float64(),
        "share of reconstructions in which it sees the same class as in the picture",
        _NO_JUDGE,
        heading="recognised",
    ),
    Column(
        "judge_similarity",
        pa.float64(),
        "mean cosine of its features of reconstruction and picture; see docs/attacks.md",
        _NO_JUDGE,
        heading="alike",
    ),
    Column("status", pa.string(), "ok, failed or skipped"),
    Column("reason", pa.string(), "why it is not ok, or its head not measured", "neither"),
)


def named(columns: tuple[Column, ...], *names: str) -> tuple[Column, ...]:
    """Choose columns, in the order of their names here."""
    by_name = {column.name: column for column in columns}
    return tuple(by_name[name] for name in names)


ESTIMATES = (
    *named(SUMMARY, "cell", *(axis.name for axis in AXES if axis.of_cells), "split", "emulated"),
    Column("anchor", pa.bool_(), "was it measured so that profiled times can be scaled by it?"),
    Column(
        "profiled_ms", pa.float64(), "median head time, estimated from the anchors alone; an anchor's from the others"
    ),
    Column("low_ms", pa.float64(), "95 % interval of the estimate"),
    Column("high_ms", pa.float64(), "95 % interval of the estimate"),
    Column("measured_ms", pa.float64(), "median head time, measured"),
    Column("error", pa.float64(), "profiled / measured - 1"),
)

PROGRESS = (
    Column("model", pa.string(), "network"),
    Column("precision", pa.string(), "of the head: fp32 or int8"),
    Column("attack", pa.string(), "name of the attack"),
    Column("split_index", pa.int64(), "place among all split points"),
    Column("split", pa.string(), "module path that the head ends in"),
    Column("seconds", pa.float64(), "since the attack began to learn at this split"),
    Column("psnr_db", pa.float64(), "mean over validation pictures of the attacker's own, of what it had by then"),
)


def arrow_schema(columns: tuple[Column, ...]) -> pa.Schema:
    """The Arrow schema of a table, its version among the metadata."""
    return pa.schema([(c.name, c.type) for c in columns], metadata={"splitbench_schema": str(SCHEMA_VERSION)})


def as_markdown() -> str:
    """Describe every table for docs/table.md (`make docs` writes it, a test compares)."""
    tables: list[tuple[str, tuple[Column, ...]]] = [
        ("The tidy table: `load_run(RUN).summary()`, `bench report RUN --csv FILE`", SUMMARY),
        ("`load_run(RUN).samples()`", SAMPLES),
        ("`load_run(RUN).leakage()`", LEAKAGE),
        ("`load_run(RUN).estimates()`", ESTIMATES),
        ("`load_run(RUN).progress()`", PROGRESS),
        ("rounds.parquet", ROUNDS),
    ]
    lines = ["# Tables", "", f"Schema version {SCHEMA_VERSION}. Made by `make docs`; times are on the device's clock."]
    for title, columns in tables:
        lines += ["", f"## {title}", "", "| column | type | meaning | empty when |", "|---|---|---|---|"]
        lines += [f"| {c.name} | {c.type} | {c.meaning} | {c.empty_when or 'never'} |" for c in columns]
    return "\n".join(lines) + "\n"
