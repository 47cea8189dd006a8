"""Numbers as a person says them."""

from bertsmith.inspection.wording import amount, duration, percent, points


def test_times_and_counts_in_words() -> None:
    assert duration(42.4) == "42 seconds"
    assert duration(372) == "6.2 minutes"
    assert amount(5_310_000) == "5.31 million"
    assert amount(512_000) == "512,000"
    assert duration(9000) == "2.5 hours" and duration(3 * 86400) == "3.0 days"
    assert amount(3_300_000_000) == "3.3 billion"
    assert percent(0.3127) == "31.3%" and points(-0.063) == "6.3 points"
