/**
 * What the command line prints: names made safe, tables, JSON, progress.
 *
 * Results go to stdout and nothing else does, so that they can be piped; progress and warnings go
 * to stderr, progress only when that is a terminal. A name from an image may hold anything, so
 * control characters are shown as escapes and never reach the terminal.
 */
import type { Ora } from "ora";
import { formatSize } from "../size-text.ts";

/** Where a command writes; tests give their own. */
export interface Streams {
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: NodeJS.WritableStream & { readonly isTTY?: boolean };
  /** What a command reads where it is given `-`. */
  readonly stdin?: AsyncIterable<unknown> | undefined;
  /** Told that something is being changed: from now on a reader who leaves does not end the run. */
  readonly mustFinish?: (() => void) | undefined;
}

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lenient = new TextDecoder("utf-8", { ignoreBOM: true });

/** The text of `bytes`, and whether that is all of it: false if they are not UTF-8. */
export function textOf(bytes: Uint8Array): { readonly text: string; readonly isExact: boolean } {
  try {
    return { text: strict.decode(bytes), isExact: true };
  } catch {
    return { text: lenient.decode(bytes), isExact: false };
  }
}

/**
 * A name as a terminal may show it: control characters, also of C1 and bidi kinds, as `\xNN`,
 * `\u{..}`.
 */
export function printable(bytes: Uint8Array | string): string {
  if (typeof bytes === "string") return escapeControls(bytes);
  const { text, isExact } = textOf(bytes);
  if (isExact) return escapeControls(text);
  let out = "";
  for (const byte of bytes) {
    const isPlain = byte >= 0x20 && byte < 0x7f && byte !== 0x5c;
    out += isPlain ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, "0")}`;
  }
  return out;
}

/** A sentence as a terminal may show it: as `printable`, but backslashes stay as they are. */
export function plainLine(text: string): string {
  return text.replace(UNSAFE, (char) => (char === "\\" ? char : escapeControls(char)));
}

// Controls, line separators, and the marks that reorder text, which can make a name look like
// another.
const UNSAFE = /[\p{Cc}\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]|\\/gu;

function escapeControls(text: string): string {
  return text.replace(UNSAFE, (char) => {
    if (char === "\\") return "\\\\";
    const code = char.codePointAt(0)!;
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
  });
}

/** True if a terminal shows `text` as it is. */
export function isPlainText(text: string): boolean {
  return !text.replaceAll("\\", "").match(UNSAFE);
}

/** Writes one value as JSON, over several lines; `bigint` as text. */
export function printJson(out: NodeJS.WritableStream, value: unknown): void {
  out.write(`${safeJson(JSON.stringify(value, replacer, 2))}\n`);
}

/** One value as a line of JSON. */
export function jsonLine(value: unknown): string {
  return `${safeJson(JSON.stringify(value, replacer))}\n`;
}

// What JSON leaves as it is, and a terminal obeys; it stands inside of strings only.
const UNSAFE_IN_JSON = /[\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;

/** The same JSON, with what may steer a terminal written as `\uNNNN`. */
function safeJson(json: string): string {
  return json.replace(
    UNSAFE_IN_JSON,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function replacer(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? value.toString() : value;
}

/**
 * Lines of columns, each as wide as its widest cell; `rightAligned` names the columns of numbers.
 */
export function table(
  rows: readonly (readonly string[])[],
  rightAligned: readonly number[],
): string {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, at) => {
      widths[at] = Math.max(widths[at] ?? 0, cell.length);
    });
  }
  const line = (row: readonly string[]): string =>
    row
      .map((cell, at) => {
        if (rightAligned.includes(at)) return cell.padStart(widths[at]!);
        return at === row.length - 1 ? cell : cell.padEnd(widths[at]!);
      })
      .join("  ");
  return rows.map((row) => `${line(row)}\n`).join("");
}

let ora: typeof import("ora").default | undefined;

/** Loads what draws progress, where there is a terminal for it. To be called once, at first. */
export async function loadProgress({ stderr }: Streams): Promise<void> {
  if (stderr.isTTY === true) ora = (await import("ora")).default;
}

/** Tells how far a long command is, on a terminal; elsewhere it says nothing. */
export class Progress {
  readonly #spinner: Ora | undefined;
  #files = 0;
  #bytes = 0;
  readonly #verb: string;

  constructor(verb: string, streams: Streams) {
    this.#verb = verb;
    if (streams.stderr.isTTY === true) {
      this.#spinner = ora?.({ text: verb, stream: streams.stderr }).start();
    }
  }

  get files(): number {
    return this.#files;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** One more file, or `bytes` more of one. */
  add(files: number, bytes: number): void {
    this.#files += files;
    this.#bytes += bytes;
    if (this.#spinner === undefined) return;
    this.#spinner.text = `${this.#verb} ${this.#files} files, ${formatSize(this.#bytes)}`;
  }

  /** Shows `text` in the place of the counts. */
  say(text: string): void {
    if (this.#spinner !== undefined) this.#spinner.text = text;
  }

  /** Counts from nothing again. */
  restart(): void {
    this.#files = 0;
    this.#bytes = 0;
  }

  done(): void {
    this.#spinner?.stop();
  }
}

/**
 * Writes to stdout and waits until that has room again, so that a slow reader of a pipe holds the
 * command back. Throws the reason of `signal` while it waits.
 */
export async function writeAll(
  { stdout, signal }: { readonly stdout: NodeJS.WritableStream; readonly signal: AbortSignal },
  chunk: string | Uint8Array,
): Promise<void> {
  if (stdout.write(chunk)) return;
  const events = ["drain", "error", "close"] as const;
  await new Promise<void>((resolve, reject) => {
    const finish = (error?: unknown): void => {
      for (const event of events) stdout.removeListener(event, finish);
      signal.removeEventListener("abort", abort);
      if (error) reject(error);
      else resolve();
    };
    const abort = (): void => finish(signal.reason);
    for (const event of events) stdout.once(event, finish);
    signal.addEventListener("abort", abort);
    if (signal.aborted) abort();
  });
}

/** As `writeAll`, for what is only told of: the work goes on if nobody takes it any more. */
export async function tellAll(
  streams: Parameters<typeof writeAll>[0],
  chunk: string | Uint8Array,
): Promise<void> {
  try {
    await writeAll(streams, chunk);
  } catch {
    streams.signal.throwIfAborted();
  }
}
