/**
 * `FileHandle` of a volume against Node's own, member by member: the same values, the same errors
 * to the letter.
 */

import type { FileHandle } from "node:fs/promises";
import { buffer as collect } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { requireTool, scratchDirectory } from "../support/tools.ts";
import { makeTwins, type Outcome, outcomeOf, type Twins } from "../support/twin-trees.ts";

const hasTools = requireTool("mke2fs") && requireTool("mkfifo");
const scratch = scratchDirectory("file-handle");
let twins: Twins;

beforeAll(async () => {
  if (hasTools) twins = await makeTwins(scratch, "directory");
});
afterAll(() => twins?.close());

/** What no type allows, as a caller without types passes it. */
const wrong = (value: unknown): never => value as never;

/** Expects that `task` does the same with a handle of each on the file at `path`. */
async function compareOn(path: string, task: (handle: FileHandle) => unknown): Promise<Outcome> {
  return twins.compare(async (fs) => {
    const handle = await fs.open(path);
    try {
      return await task(handle);
    } finally {
      await handle.close();
    }
  });
}

/** The outcome of each call in turn, on one handle. */
async function inTurn(calls: readonly (() => unknown)[]): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const call of calls) outcomes.push(await outcomeOf(call));
  return outcomes;
}

const zeros = (length: number): Buffer => Buffer.alloc(length);

type Reads = readonly [title: string, reads: (handle: FileHandle) => readonly (() => unknown)[]];

const READS: readonly Reads[] = [
  ["no arguments", (h) => [() => h.read(), () => h.read()]],
  ["null", (h) => [() => h.read(null as never)]],
  ["empty options", (h) => [() => h.read({})]],
  ["a buffer alone", (h) => [() => h.read(zeros(5)), () => h.read(zeros(5))]],
  ["undefined for all else", (h) => [() => h.read(zeros(5), undefined, undefined, undefined)]],
  ["null for all else", (h) => [() => h.read(zeros(5), null, null, null)]],
  ["all four", (h) => [() => h.read(zeros(9), 2, 5, 3), () => h.read(zeros(9), 0, 4, null)]],
  [
    "options behind a buffer",
    (h) => [() => h.read(zeros(9), { offset: 1, length: 3, position: 2 })],
  ],
  ["a buffer in options", (h) => [() => h.read({ buffer: zeros(4), position: 6 })]],
  ["position -1", (h) => [() => h.read(zeros(4), 0, 4, -1), () => h.read(zeros(4), 0, 4, -1)]],
  [
    "position null",
    (h) => [() => h.read(zeros(4), 0, 4, null), () => h.read(zeros(4), 0, 4, null)],
  ],
  ["a position does not move it", (h) => [() => h.read(zeros(4), 0, 4, 9), () => h.read(zeros(4))]],
  [
    "past the end",
    (h) => [() => h.read(zeros(4), 0, 4, 1000), () => h.read(zeros(4), 0, 4, 2 ** 41)],
  ],
  ["across the end", (h) => [() => h.read(zeros(100), 0, 100, 20), () => h.read(zeros(100))]],
  ["zero length", (h) => [() => h.read(zeros(4), 0, 0), () => h.read(zeros(4), 0, 0, -5)]],
  ["an empty buffer", (h) => [() => h.read(zeros(0)), () => h.read(zeros(0), 0, 1)]],
  [
    "other views",
    (h) => [() => h.read(new Uint8Array(4)), () => h.read(wrong(new DataView(new ArrayBuffer(3))))],
  ],
  [
    "wider views",
    (h) => [() => h.read(new Uint16Array(3)), () => h.read(new Float64Array(2), 0, 16)],
  ],
  [
    "a length that is too large",
    (h) => [() => h.read(zeros(4), 0, 5), () => h.read(zeros(4), 2, 3)],
  ],
  ["a negative length", (h) => [() => h.read(zeros(4), 0, -1)]],
  ["a negative offset", (h) => [() => h.read(zeros(4), -1)]],
  ["an offset past the buffer", (h) => [() => h.read(zeros(4), 5), () => h.read(zeros(4), 4)]],
  ["an offset with a fraction", (h) => [() => h.read(zeros(4), 1.5)]],
  ["an offset that is no number", (h) => [() => h.read(zeros(4), wrong("1"))]],
  ["a string", (h) => [() => h.read(wrong("x"))]],
  ["a number", (h) => [() => h.read(wrong(1))]],
  ["a wrong buffer in options", (h) => [() => h.read({ buffer: wrong("x") })]],
  ["a list", (h) => [() => h.read(wrong([]))]],
];

const READVS: readonly Reads[] = [
  [
    "two buffers",
    (h) => [() => h.readv([zeros(3), zeros(4)]), () => h.readv([zeros(3), zeros(4)])],
  ],
  ["a position", (h) => [() => h.readv([zeros(3), zeros(4)], 5), () => h.readv([zeros(3)])]],
  [
    "past the end",
    (h) => [() => h.readv([zeros(30), zeros(400)], 5), () => h.readv([zeros(3)], 999)],
  ],
  ["an empty buffer between", (h) => [() => h.readv([zeros(2), zeros(0), zeros(2)])]],
  ["position null", (h) => [() => h.readv([zeros(2)], wrong(null)), () => h.readv([zeros(2)])]],
  [
    "no list",
    (h) => [
      () => h.readv(wrong("x")),
      () => h.readv(wrong(undefined)),
      () => h.readv(wrong(zeros(2))),
    ],
  ],
  [
    "a list of others",
    (h) => [() => h.readv(wrong([1, 2])), () => h.readv(wrong([zeros(1), "x"]))],
  ],
];

describe("FileHandle", () => {
  test.skipIf(!hasTools).each(READS)("read: %s", async (_title, reads) => {
    for (const path of ["text", "empty", "a"]) {
      await compareOn(path, (handle) => inTurn(reads(handle)));
    }
  });

  test.skipIf(!hasTools).each(READVS)("readv: %s", async (_title, reads) => {
    for (const path of ["text", "empty", "a"]) {
      await compareOn(path, (handle) => inTurn(reads(handle)));
    }
  });

  test.skipIf(!hasTools)("a file of 3 TiB beyond 2^32 and 2^41", async () => {
    for (const at of [0, 2 ** 32 - 3, 2 ** 32, 2 ** 41 + 12_340, 3 * 2 ** 40 - 5]) {
      await compareOn("huge", (handle) => inTurn([() => handle.read(zeros(20), 0, 20, at)]));
      // Node 20 takes a bigint for no position at all.
      const handle = await twins.volume.fs.open("huge");
      const [exact, big] = [zeros(20), zeros(20)];
      await handle.read(exact, 0, 20, at);
      await handle.read(big, 0, 20, BigInt(at));
      await handle.close();
      expect(big).toEqual(exact);
    }
    const handle = await twins.volume.fs.open("huge");
    // Node 20 ends the process for such lengths.
    for (const length of [2.7, "2"]) {
      await expect(handle.read(zeros(4), 0, wrong(length))).rejects.toThrow(/"length"/);
    }
    // It takes what is no position for none, too; `fs.read` refuses that, and so does a volume.
    for (const unsafe of [2n ** 53n, 2n ** 63n, -2n, -2, 1.5, 2 ** 53, "1", {}]) {
      const read = handle.read(zeros(1), 0, 1, wrong(unsafe));
      const code = /^ERR_(?:OUT_OF_RANGE|INVALID_ARG_TYPE)$/;
      await expect(read).rejects.toMatchObject({ code: expect.stringMatching(code) });
    }
    await handle.close();
  });

  test.skipIf(!hasTools)("readFile goes on from the position", async () => {
    for (const path of ["text", "empty", "large", "a", "over-2g"]) {
      await compareOn(path, (h) => inTurn([() => h.readFile(), () => h.readFile()]));
      await compareOn(path, (h) =>
        inTurn([() => h.read(zeros(5)), () => h.readFile("utf8"), () => h.read(zeros(5))]),
      );
    }
    const options = ["latin1", { encoding: "hex" }, "nonsense", "buffer", 1, { signal: 1 }, null];
    for (const given of options) {
      await compareOn("text", (h) => inTurn([() => h.readFile(wrong(given))]));
    }
  });

  test.skipIf(!hasTools)("readLines", async () => {
    for (const path of ["text", "empty", "run"]) {
      for (const options of [undefined, { start: 4 }, { end: 8 }, { highWaterMark: 3 }]) {
        await compareOn(path, async (handle) => {
          const lines: string[] = [];
          for await (const line of handle.readLines(options)) lines.push(line);
          return lines;
        });
      }
    }
  });

  test.skipIf(!hasTools)("createReadStream with every option", async () => {
    const all: readonly unknown[] = [
      undefined,
      {},
      { start: 3 },
      { end: 5 },
      { start: 2, end: 2 },
      { start: 100 },
      { highWaterMark: 4 },
      { encoding: "utf8", highWaterMark: 1 },
      { encoding: "hex" },
      { encoding: "nonsense" },
      { autoClose: false },
      { signal: {} },
    ];
    for (const options of all) {
      for (const path of ["text", "empty", "a"]) {
        await compareOn(path, async (handle) => {
          const stream = handle.createReadStream(wrong(options));
          const chunks: unknown[] = [];
          for await (const chunk of stream) chunks.push(chunk);
          return [chunks, stream.bytesRead, stream.destroyed, stream.closed, handle.fd === -1];
        });
      }
    }
  });

  test.skipIf(!hasTools)("streams close the handle at the end, unless told not to", async () => {
    for (const autoClose of [true, false]) {
      await compareOn("text", async (handle) => {
        await collect(handle.createReadStream({ autoClose }));
        return [handle.fd === -1, await outcomeOf(() => handle.read(zeros(1)))];
      });
    }
  });

  test.skipIf(!hasTools)("a stream after reads begins at the position", async () => {
    await compareOn("text", async (handle) => {
      await handle.read(zeros(4));
      return [await collect(handle.createReadStream({ end: 5 }))];
    });
  });

  test.skipIf(!hasTools)("readableWebStream gives the bytes, once", async () => {
    for (const path of ["text", "empty", "large"]) {
      await compareOn(path, async (handle) => {
        const parts: Uint8Array[] = [];
        for await (const part of handle.readableWebStream() as AsyncIterable<ArrayBuffer>) {
          parts.push(new Uint8Array(part));
        }
        const again = await outcomeOf(() => handle.readableWebStream());
        return [Buffer.concat(parts), again];
      });
    }
  });

  test.skipIf(!hasTools)("stat", async () => {
    for (const path of ["text", "empty", "huge", "a"]) {
      await compareOn(path, (handle) => handle.stat());
      await compareOn(path, (handle) => handle.stat({ bigint: true }));
    }
  });

  test.skipIf(!hasTools)(
    "closed handles refuse everything, and closing twice is fine",
    async () => {
      await twins.compare(async (fs) => {
        const handle = await fs.open("text");
        await Promise.all([handle.close(), handle.close()]);
        await handle[Symbol.asyncDispose]();
        const calls = [
          () => handle.read(zeros(1)),
          () => handle.readv([zeros(1)]),
          () => handle.readFile(),
          () => handle.stat(),
          () => handle.sync(),
          () => handle.datasync(),
          () => handle.write("x"),
          () => handle.writev([zeros(1)]),
          () => handle.writeFile("x"),
          () => handle.appendFile("x"),
          () => handle.truncate(1),
          () => handle.chmod(0o600),
          () => handle.chown(1, 1),
          () => handle.utimes(1, 1),
          () => handle.readableWebStream(),
          () => handle.close(),
        ];
        return [handle.fd, await inTurn(calls)];
      });
    },
  );

  test.skipIf(!hasTools)("reads under way end before the handle is closed", async () => {
    await twins.compare(async (fs) => {
      const handle = await fs.open("large");
      const reads = [0, 1, 2, 3].map((n) => handle.read(zeros(9), 0, 9, n * 200_000));
      await handle.close();
      return Promise.all(reads);
    });
  });

  test.skipIf(!hasTools)("reads without a position, all at once, share the file out", async () => {
    await twins.compare(async (fs) => {
      const handle = await fs.open("large");
      const reads = await Promise.all(Array.from({ length: 16 }, () => handle.read(zeros(1000))));
      await handle.close();
      return reads.map(({ buffer }) => buffer.toString("hex")).sort();
    });
  });

  test.skipIf(!hasTools)("every member of Node's FileHandle is there", async () => {
    const handle = await twins.ours.open("text");
    const names: (string | symbol)[] = [
      ..."appendFile chmod chown close createReadStream createWriteStream datasync fd read".split(
        " ",
      ),
      ..."readFile readLines readableWebStream readv stat sync truncate utimes".split(" "),
      ..."write writeFile writev".split(" "),
      Symbol.asyncDispose,
    ];
    expect(names.filter((name) => !(name in handle))).toEqual([]);
    await handle.close();
  });
});
