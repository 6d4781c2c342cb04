"""The page of `mcc-web serve` in a real Chromium: it describes the routes, and tries one."""

from tests.support.servers import served


def test_the_page_describes_the_routes_and_tries_one(new_page):
    with served("mcc_caffe.web", "serve", "--port", 0) as url:
        page = new_page(url)
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.reload()
        page.wait_for_selector("text=Find the hands of an image")
        page.click("text=Tell that the server works, and with what")
        page.click("text=Try it out")
        page.click("text=Execute")
        page.wait_for_selector("text=most_requests")
        assert asked and all(
            address.startswith((url.strip(), "data:", "blob:")) for address in asked
        )
