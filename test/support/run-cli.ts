/** The command line without a process: `run` with streams that keep what was written. */
import { Writable } from "node:stream";
import { run } from "../../src/front/cli/program.ts";

/** What a run wrote and how it ended. */
export interface CliResult {
  readonly exitCode: number;
  readonly stdout: Buffer;
  /** `stdout` as text. */
  readonly text: string;
  readonly stderr: string;
}

/** A stream that keeps what is written to it. */
export class KeptOutput extends Writable {
  readonly isTTY: boolean;
  readonly #chunks: Buffer[] = [];

  constructor(isTTY = false) {
    super();
    this.isTTY = isTTY;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  // What a spinner asks of a terminal.
  clearLine(): boolean {
    return true;
  }
  cursorTo(): boolean {
    return true;
  }
  moveCursor(): boolean {
    return true;
  }

  override _write(chunk: Buffer | string, _encoding: string, done: () => void): void {
    this.#chunks.push(Buffer.from(chunk));
    done();
  }
}

/** Runs `quire` with `args`. */
export async function quire(
  args: readonly string[],
  options: {
    readonly signal?: AbortSignal;
    readonly isTerminal?: boolean;
    readonly stdin?: AsyncIterable<Uint8Array>;
  } = {},
): Promise<CliResult> {
  const stdout = new KeptOutput();
  const stderr = new KeptOutput(options.isTerminal);
  const signal = options.signal ?? new AbortController().signal;
  const exitCode = await run(args, { stdout, stderr, stdin: options.stdin }, "1.2.3", signal);
  const text = stdout.bytes.toString();
  return { exitCode, stdout: stdout.bytes, text, stderr: stderr.bytes.toString() };
}
