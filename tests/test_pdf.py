"""PDFs are rendered beside the gateway, not in it."""

import io

import pikepdf
import pytest

from billing import pdf

HTML = "<html lang=en><head><title>T</title></head><body><h1>Größe 5,95 €</h1>{}</body></html>"


@pytest.fixture(autouse=True)
def ended() -> object:
    yield
    pdf.close()


def test_the_archive_format_and_the_fonts_are_in_the_file() -> None:
    content = pdf.render_apart(HTML.format(""), "body { color: teal }")
    with pikepdf.open(io.BytesIO(content)) as document:
        assert document.open_metadata().get("pdfaid:part") == "3"
        assert document.Root.Lang == "en"
        fonts = [f for page in document.pages for f in page.Resources.Font.values()]
        assert fonts
        for font in fonts:
            assert "/FontFile2" in font.DescendantFonts[0].FontDescriptor or (
                "/FontFile3" in font.DescendantFonts[0].FontDescriptor
            )


def test_nothing_is_fetched_from_files_or_the_network(tmp_path) -> None:
    picture = tmp_path / "secret.svg"
    picture.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    image = f'<img src="file://{picture}"><img src="http://127.0.0.1:1/x.png">'
    plain = pdf.render_apart(HTML.format(""), "")
    with pikepdf.open(io.BytesIO(pdf.render_apart(HTML.format(image), ""))) as document:
        assert len(document.pages[0].Resources.get("/XObject", {})) == 0
    assert plain.startswith(b"%PDF-")


def test_a_process_that_died_is_replaced() -> None:
    pdf.render_apart(HTML.format(""), "")
    child = pdf._child
    assert child is not None
    child.kill()
    child.wait()
    assert pdf.render_apart(HTML.format(""), "").startswith(b"%PDF-")
    assert pdf._child is not child


def test_the_process_ends_with_its_pipe() -> None:
    pdf.render_apart(HTML.format(""), "")
    child = pdf._child
    assert child is not None
    child.stdin.close()
    assert child.wait(5) == 0


def test_what_went_wrong_is_said() -> None:
    with pytest.raises(pdf.RenderError, match="TypeError"):
        pdf.render_apart(None, None)  # type: ignore[arg-type]
