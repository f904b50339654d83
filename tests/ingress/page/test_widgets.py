"""Parts of the page that this server's models alone do not show."""

from __future__ import annotations

from tests.ingress.page.conftest import Page

CHOOSE = """
return (async () => {
  const { html, render } = await import(location.origin + "/page/html.js");
  const { ModelChoice } = await import(location.origin + "/page/widgets.js");
  const models = [
    { id: "flux", kind: "image" }, { id: "pixel-art", kind: "image", parent: "flux" },
    { id: "qwen", kind: "image" }, { id: "llada", kind: "text" },
  ];
  const place = document.createElement("div");
  const show = value => render(
    html`<${ModelChoice} models=${models} kind="image" value=${value} onPick=${show} />`, place);
  const shown = () => [...place.querySelectorAll("select")]
    .map(select => [select.value, [...select.options].map(option => option.text).join()].join(": "));
  const pick = (select, value) => {
    select.value = value;
    select.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const seen = [];
  show("");
  seen.push(shown());
  pick(place.querySelectorAll("select")[1], "pixel-art");
  seen.push(shown());
  pick(place.querySelectorAll("select")[0], "qwen");
  seen.push(shown());
  return seen;
})();
"""


def test_a_model_and_one_of_its_adapters_are_chosen(page: Page) -> None:
    models = "flux,qwen"
    assert page.open("chat").script(CHOOSE) == [
        [f"flux: {models}", "flux: none,pixel-art"],
        [f"flux: {models}", "pixel-art: none,pixel-art"],
        [f"qwen: {models}"],
    ]
