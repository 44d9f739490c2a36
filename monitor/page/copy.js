// Texts for the clipboard.

import { say } from "./actions.js";

export async function copy(text) {
  // Pages that came over plain HTTP, from another machine than this, have no clipboard.
  try {
    await navigator.clipboard.writeText(text);
    return say("copied");
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    return copied ? say("copied") : say("this browser copies nothing from here", true);
  }
}

// A command that asks for the same, for a shell.
export const command = (address) => `curl -s '${address.replaceAll("'", "%27")}'`;
