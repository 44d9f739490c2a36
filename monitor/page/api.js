// Requests. All addresses are relative, so that the page works under any prefix.

export class Refused extends Error {
  constructor(status, body) {
    super(body?.error ?? `the server answered ${status}`);
    this.status = status;
    this.code = body?.code;
    this.body = body;
  }
}

async function answer(response) {
  const text = await response.text();
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    if (response.ok) throw new Refused(response.status, { error: "the answer is no JSON" });
  }
  if (!response.ok) throw new Refused(response.status, body ?? { error: text.slice(0, 500) });
  return body;
}

export async function get(path, query = {}) {
  const wanted = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const tail = wanted.length ? `?${new URLSearchParams(wanted)}` : "";
  return answer(await fetch(`api/v1/${path}${tail}`, { headers: { Accept: "application/json" }, cache: "no-store" }));
}

export async function post(path, body = {}) {
  return answer(
    await fetch(`api/v1/${path}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Batrun": "1" },
      body: JSON.stringify(body),
    }),
  );
}

export const of = (pipeline, ...rest) => ["pipelines", pipeline, ...rest].map(encodeURIComponent).join("/");
