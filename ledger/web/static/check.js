// Hash the chosen file here first: a known one is answered by its record, without an upload. Without this script, or
// where the browser does not hash (a page that is neither https nor localhost), the form uploads as it always does.
"use strict";
(() => {
  const form = document.getElementById("ask");
  const input = document.getElementById("file");
  const said = document.getElementById("said");
  const most = Number(document.getElementById("limits").dataset.maxBytes);
  const say = (text) => { said.textContent = text; };
  let busy = false;
  document.getElementById("how").textContent = "Choose a file, drop it anywhere on this page, or paste it.";

  const sha256 = async (file) => {
    const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
    return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
  };

  // The address of the file's record, or null where it is not known, or nobody could say.
  const known = async (file) => {
    if (!globalThis.crypto?.subtle) return null;
    const hash = await sha256(file);
    const answer = await fetch(`/v1/records?file_sha256=${hash}`, { headers: { Accept: "application/json" } });
    if (!answer.ok) return null;
    return (await answer.json()).records.length ? `/r/${hash}` : null;
  };

  const check = async (file) => {
    if (busy) return;
    if (file.size > most) {
      say(`This file has ${Math.ceil(file.size / 2 ** 20)} MiB; at most ${Math.floor(most / 2 ** 20)} MiB are taken.`);
      return;
    }
    busy = true;
    say("Hashing it here…");
    let address = null;
    try {
      address = await known(file);
    } catch {
      address = null; // the upload finds out
    }
    if (address) {
      say("It is on record. Nothing was uploaded.");
      location.assign(address);
    } else {
      say("Not known by its hash. Uploading it to look at its pixels…");
      form.submit();
    }
  };

  const take = (files) => {
    const file = Array.from(files).find((each) => each.type.startsWith("image/"));
    if (!file) {
      say("That is no image file. PNG, JPEG and WebP are taken.");
      return;
    }
    const chosen = new DataTransfer();
    chosen.items.add(file);
    input.files = chosen.files;
    check(file);
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (input.files.length) check(input.files[0]);
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    form.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) form.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("over");
    take(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => {
    if (!event.clipboardData.files.length) return; // text goes where the cursor is
    event.preventDefault();
    take(event.clipboardData.files);
  });
  // Back from an answer: the page may come out of the browser's cache as it was left.
  addEventListener("pageshow", () => { busy = false; say(""); });
})();
