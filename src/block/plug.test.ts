import { describe, expect, test } from "vitest";
import { Bio, REQ_OP_READ } from "./bio.ts";
import { PLUG_MAX_BIOS, Plug, type PlugTarget } from "./plug.ts";

function bioAt(offsetBytes: number): Bio {
  return new Bio(REQ_OP_READ, 0, offsetBytes, () => {});
}

describe("Plug", () => {
  test("holds bios until the flush and gives each to its own device, in order", () => {
    const log: string[] = [];
    const target = (name: string): PlugTarget => ({
      queueBio: (bio) => log.push(`${name}${bio.offsetBytes}`),
    });
    const [a, b] = [target("a"), target("b")];
    const plug = new Plug();
    plug.add(a, bioAt(3));
    plug.add(b, bioAt(1));
    plug.add(a, bioAt(2));
    expect([plug.length, log]).toEqual([3, []]);
    plug.flush();
    expect([plug.length, log]).toEqual([0, ["a3", "b1", "a2"]]);
    plug.flush();
    expect(log.length).toBe(3);
  });

  test("flushes itself before it holds more than its limit", () => {
    let queued = 0;
    const target: PlugTarget = { queueBio: () => queued++ };
    const plug = new Plug();
    for (let at = 0; at < PLUG_MAX_BIOS; at++) plug.add(target, bioAt(at));
    expect([plug.length, queued]).toEqual([PLUG_MAX_BIOS, 0]);
    plug.add(target, bioAt(999));
    expect([plug.length, queued]).toEqual([1, PLUG_MAX_BIOS]);
  });

  test("may be added to while it is flushed", () => {
    const plug = new Plug();
    const log: number[] = [];
    const target: PlugTarget = {
      queueBio: (bio) => {
        log.push(bio.offsetBytes);
        if (log.length === 1) plug.add(target, bioAt(7));
      },
    };
    plug.add(target, bioAt(1));
    plug.add(target, bioAt(2));
    plug.flush();
    expect([log, plug.length]).toEqual([[1, 2], 1]);
  });
});
