import { describe, expect, test } from "vitest";
import { realClock } from "../lib/clock.ts";
import { FlushMachine } from "./flush.ts";

/** A machine whose flushes end when told; `ends[n]` is the n-th flush. */
function machineOf(): { machine: FlushMachine; ends: PromiseWithResolversLike[] } {
  const ends: PromiseWithResolversLike[] = [];
  const machine = new FlushMachine(
    () => new Promise((resolve, reject) => ends.push({ resolve, reject })),
  );
  return { machine, ends };
}
interface PromiseWithResolversLike {
  resolve: () => void;
  reject: (reason: unknown) => void;
}

async function settled(promise: Promise<void>): Promise<string> {
  const pending = realClock.turn().then(() => "pending");
  return Promise.race([
    promise.then(
      () => "done",
      (reason) => `failed: ${reason}`,
    ),
    pending,
  ]);
}

describe("FlushMachine", () => {
  test("wishes of one stretch of code share a flush", async () => {
    const { machine, ends } = machineOf();
    const wishes = [machine.flush(), machine.flush(), machine.flush()];
    expect(ends.length).toBe(0);
    await realClock.turn();
    expect(ends.length).toBe(1);
    ends[0]!.resolve();
    await Promise.all(wishes);
    expect(ends.length).toBe(1);
  });

  test("a wish never joins a flush that has begun, and all that wait share the next", async () => {
    const { machine, ends } = machineOf();
    const first = machine.flush();
    await realClock.turn();
    const second = machine.flush();
    const third = machine.flush();
    await realClock.turn();
    expect(ends.length).toBe(1);
    ends[0]!.resolve();
    expect(await settled(first)).toBe("done");
    expect(await settled(second)).toBe("pending");
    expect(ends.length).toBe(2);
    const fourth = machine.flush();
    ends[1]!.resolve();
    expect([await settled(second), await settled(third)]).toEqual(["done", "done"]);
    expect(await settled(fourth)).toBe("pending");
    ends[2]!.resolve();
    expect(await settled(fourth)).toBe("done");
    expect(ends.length).toBe(3);
  });

  test("a failed flush fails those who wished for it, and not the next", async () => {
    const { machine, ends } = machineOf();
    const first = machine.flush();
    await realClock.turn();
    const second = machine.flush();
    ends[0]!.reject("cable");
    expect(await settled(first)).toBe("failed: cable");
    ends[1]!.resolve();
    expect(await settled(second)).toBe("done");
  });
});
