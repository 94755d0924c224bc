"""The plots of bench/report, drawn by gnuplot as SVG.

Each function makes a plot of numbers that are worked out already: gnuplot's
settings, and its series. A series is (title, points, style).
"""

import subprocess

TERMINAL = ["set terminal svg size 760,480 background 'white' font 'sans,13'",
            "set grid", "set key outside top center horizontal"]


def draw(path, plot):
    """Writes the SVG. False: there are no points at all."""
    settings, series, kind = plot
    series = [s for s in series if s[1]]
    if not series:
        return False
    script = TERMINAL + [f"set output '{path}'"] + settings
    for i, (_, points, _) in enumerate(series):
        lines = "\n".join(" ".join(str(v) for v in p) for p in sorted(points))
        script.append(f"$d{i} << EOD\n{lines}\nEOD")
    script.append("plot " + ", ".join(
        f"$d{i} with {kind} {style} title '{title}'"
        for i, (title, _, style) in enumerate(series)))
    subprocess.run(["gnuplot"], input="\n".join(script) + "\n", text=True,
                   check=True)
    return True


def invalidate(lines, peer):
    """What it costs to invalidate all of N pages: points (N, multiple of L)."""
    return ([
        "set logscale x 2", "set logscale y", "set format x '2^{%L}'",
        "set format y '10^{%T}'", "set xlabel 'pages mapped'",
        "set ylabel 'the whole of it, in L (one cache miss)'"],
        [("zap-all", lines["zap_all"], "lw 2 pt 7"),
         ("obsolete walk", lines["walk"], "lw 2 pt 5"),
         ("bump alone", lines["bump"], "lw 2 pt 9"),
         ("bump, 8 vCPUs", lines["bump8"], "lw 2 pt 11"),
         ("release", lines["release"], "lw 2 pt 13"),
         ("KVM, walk", peer, "lw 2 dt 2 pt 6")],
        "linespoints")


def slot_zap(lines):
    """A slot goes and the rest is warm again: (way, slot) -> points (others, us)."""
    dashes = {slot: i for i, slot in enumerate(sorted({s for _, s in lines}), 1)}
    colours = {"targeted": 1, "walk": 2, "release": 3}
    return (["set logscale x 2", "set logscale y", "set format x '2^{%L}'",
             "set format y '10^{%T}'",
             "set xlabel 'pages of other slots that are mapped'",
             "set ylabel 'us until they are mapped again'"],
            [(f"{way}, slot of 2^{{{slot.bit_length() - 1}}}", points,
              f"lc {colours[way]} dt {dashes[slot]} lw 2 pt 7")
             for (way, slot), points in sorted(lines.items())],
            "linespoints")


def aliases(ours, peer):
    """What an spte costs by aliases: op -> points (A, multiple of L)."""
    series = []
    for colour, op in enumerate(ours, 1):
        title = op.replace("_", " ")
        series.append((title, ours[op], f"lc {colour} lw 2 pt 7"))
        series.append((f"KVM, {title}", peer[op], f"lc {colour} lw 2 dt 2 pt 6"))
    return (["set logscale x 2", "set logscale y", "set xtics (1, 4, 16, 64, 300)",
             "set xlabel 'aliases: sptes that map a gfn'",
             "set ylabel 'a spte, in L (one cache miss)'"],
            series, "linespoints")


def memory(rows):
    """Bytes a spte: (label, ours, KVM's or None)."""
    labels = ", ".join(f"'{label}' {i}" for i, (label, *_) in enumerate(rows))
    return ([f"set xtics ({labels})", "set yrange [0:*]", "set boxwidth 0.35",
             "set style fill solid 0.7",
             "set ylabel 'bytes a spte, its own 8 included'"],
            [("shadowmmu", [(i - 0.18, r[1]) for i, r in enumerate(rows)], "lc 1"),
             ("KVM", [(i + 0.18, r[2]) for i, r in enumerate(rows) if r[2]], "lc 2")],
            "boxes")
