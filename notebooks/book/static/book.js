// The switch English / हिन्दी / both, and the place of a word that was searched for. The page reads well without it.
"use strict";

const remembered = {
  get: () => { try { return localStorage.getItem("words") || ""; } catch (error) { return ""; } },
  set: (words) => { try { localStorage.setItem("words", words); } catch (error) { /* a browser that keeps nothing */ } },
};

// A Hindi block and the English that it stands for. In Hindi alone, one of the two is seen: closing one shows the other.
// A cell that prints in both languages puts its English right before.
const blocks = [...document.querySelectorAll("details.hindi")].map((details, number) => {
  const printed = details.previousElementSibling;
  const english = [...document.querySelectorAll(`.english-${number}`)];
  return { details, english: printed && printed.matches("div[lang=en]") ? [...english, printed] : english };
});

const showEnglish = ({ details, english }) => {
  const alone = document.documentElement.dataset.words === "hi" && details.open;
  english.forEach((node) => { node.hidden = alone; });
};

const choose = (words) => {
  document.documentElement.dataset.words = words;
  document.querySelectorAll(".words button").forEach((button) => {
    button.setAttribute("aria-pressed", String(button.dataset.words === words));
  });
  blocks.forEach((block) => {
    block.details.open = words === "hi" || words === "both";
    showEnglish(block);
  });
};

blocks.forEach((block) => block.details.addEventListener("toggle", () => showEnglish(block)));
document.querySelectorAll(".words button").forEach((button) => {
  button.addEventListener("click", () => {
    const words = document.documentElement.dataset.words === button.dataset.words ? "" : button.dataset.words;
    remembered.set(words);
    choose(words);
  });
});
choose(remembered.get());

// From the search: open what hides the word, and go there. Sphinx marks words a moment after the page is there.
const goToFound = () => {
  const found = document.querySelector("article span.highlighted");
  if (!found || location.hash) return;
  for (let node = found; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
  found.scrollIntoView({ block: "center" });
};
window.addEventListener("load", () => setTimeout(goToFound, 100));

// What is wider than the screen scrolls inside itself: with the keyboard, too.
document.querySelectorAll("pre, .table-wrapper, .formula").forEach((box) => {
  if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
});
