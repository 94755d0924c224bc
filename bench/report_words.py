"""How bench/report writes numbers, and tables."""


def short(value):
    """Three digits, or all before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.3f}"


def duration(ns):
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{short(ns / size)} {unit}"
    return f"{short(ns)} ns"


def power(n):
    """2^k where n is that."""
    return f"2^{n.bit_length() - 1}" if n and n & (n - 1) == 0 else f"{n:,}"


def cell(row, latency=None):
    """ "116 = 0.81 L (790)": ns, multiple of L, instructions."""
    if row is None:
        return "-"
    text = short(row["ns"])
    times = row["ns"] / latency if latency else row.get("xL")
    if times is not None:
        text += f" = {short(times)} L"
    return text + (f" ({short(row['instr'])})" if "instr" in row else "")


def table(header, body):
    if not body:
        return "(Not in these results.)"
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in body])
