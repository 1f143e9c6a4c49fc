"""What a visitor or a program sends: data addresses, paths and names, in any form."""

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_hub.preprocess import ImageError
from resnet_hub.ui.shared.page import MOST_NAME, named, uploaded

FILES = st.binary(min_size=8, max_size=200)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(FILES, st.sampled_from(["image/png", "", "image/svg+xml;charset=utf-8"]))
def test_a_data_address_is_read_in_each_of_its_forms(data, kind):
    usual, url_safe = base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()
    broken = "\r\n ".join(usual[i : i + 76] for i in range(0, len(usual), 76))
    for text in (usual, usual.rstrip("="), url_safe, broken, quote(usual, safe="")):
        assert uploaded({"url": f"data:{kind};base64,{text}"}) == data
    assert uploaded({"url": f"DATA:{kind},{quote(data)}"}) == data


@given(st.text(max_size=200))
def test_a_damaged_data_address_is_bytes_or_one_named_error(text):
    try:
        assert isinstance(uploaded({"url": f"data:{text}"}), bytes)
    except ImageError as error:
        assert error.code in ("bad_address", "truncated")


@pytest.mark.parametrize("text", ["image/png;base64", "image/png;base64,a", "image/png;base64,a*cdefghijkl"])
def test_what_is_no_base64_is_named(text):
    with pytest.raises(ImageError) as refused:
        uploaded({"url": f"data:{text}"})
    assert refused.value.code == "bad_address"


@given(JSON | st.fixed_dictionaries({"path": JSON, "url": JSON}))
def test_a_payload_of_any_type_is_refused_in_one_line(payload):
    with pytest.raises(ImageError):
        uploaded(payload)


@given(JSON)
def test_a_model_s_name_is_a_short_text_whatever_was_sent(value):
    assert isinstance(named(value), str)
    assert len(named("x" * 20_000_000)) == MOST_NAME
