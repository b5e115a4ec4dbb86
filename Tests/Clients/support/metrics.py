"""The metrics of a host, as Prometheus' own parser reads them."""

import re

import requests
from prometheus_client.parser import text_string_to_metric_families


def metrics(host):
    """All samples by name and labels, with what a linter asks of them."""
    reply = requests.get(f"{host.url('management')}/metrics", timeout=30)
    assert reply.status_code == 200
    assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = {}
    names = set()
    for family in text_string_to_metric_families(reply.text):
        assert family.name not in names, f"{family.name} is there twice"
        names.add(family.name)
        assert family.type in {"counter", "gauge", "summary"}, family
        assert family.documentation, family
        assert re.fullmatch(r"(windlass|process)_[a-z_]+", family.name), family
        for sample in family.samples:
            if family.type == "counter":
                assert sample.name.endswith("_total") and sample.value >= 0, sample
            else:
                assert not sample.name.endswith("_total"), sample
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples, sample
            samples[key] = sample.value
    return samples


def total(samples, name, **labels):
    return sum(value for (found, of), value in samples.items() if found == name and labels.items() <= dict(of).items())
