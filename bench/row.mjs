/**
 * One row of a comparison: sides that run turn by turn, so that the machine's noise hits all of them,
 * and the median of the ratios of the turns.
 */

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

async function time(task) {
  const start = process.hrtime.bigint();
  await task();
  return Number(process.hrtime.bigint() - start);
}

/** Runs the sides of one row turn by turn; the first is quire's, the second what the goal is set by. */
export async function row(name, goal, sides, turns, warmTurns, before = () => {}) {
  const times = Object.fromEntries(Object.keys(sides).map((side) => [side, []]));
  for (let turn = 0; turn < warmTurns; turn++) {
    for (const side of Object.values(sides)) {
      before();
      await side();
    }
  }
  for (let turn = 0; turn < turns; turn++) {
    for (const [side, task] of Object.entries(sides)) {
      before();
      times[side].push(await time(task));
    }
  }
  const [quire, peer] = Object.keys(sides);
  const ratio =
    peer === undefined
      ? Number.NaN
      : median(times[peer].map((peerTime, turn) => peerTime / times[quire][turn]));
  const shown = Object.entries(times).map(
    ([side, list]) => `${side} ${(median(list) / 1e6).toFixed(2)} ms`,
  );
  const verdict =
    goal === 0
      ? "-"
      : ratio >= goal
        ? "met"
        : `MISSED by ${((1 - ratio / goal) * 100).toFixed(0)} %`;
  console.log(
    `${name}\n    ${ratio.toFixed(2)}x of ${peer}, goal ${goal}x: ${verdict}\n    ${shown.join(", ")}`,
  );
}
