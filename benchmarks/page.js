// Every chart of the page, 300 points each and all in sight, updated [warm + count] times: milliseconds of each
// update, of its script alone and with every canvas drawn (a pixel read back makes it draw at once).
async ([warm, count]) => {
  const [{ Board }, { ChartData }, { CHARTS, seriesOf }] = await Promise.all(
    ["charts-board", "charts-data", "charts-list"].map((name) => import(`/static/${name}.js`)));
  const holder = document.createElement("div");
  document.querySelector("main").prepend(holder);
  const names = seriesOf(CHARTS);
  const t = Array.from({ length: 300 }, (_, i) => i * 12);
  const column = (phase) => {
    const avg = t.map((_, i) => 40 + 30 * Math.sin(i / 9 + phase) + (i * 7919) % 10);
    return { t: [...t], min: avg.map((value) => value - 9), max: avg.map((value) => value + 9), avg, step: 12 };
  };
  const series = Object.fromEntries(names.map((name, i) => [name, column(i)]));
  const data = new ChartData({ from: 0, to: 3600, step: 12, series });
  const board = new Board(holder, CHARTS.map((chart) => ({ ...chart, id: `bench-${chart.id}` })));
  await board.begin();
  const canvases = [...holder.querySelectorAll("canvas")];
  const took = [];
  for (let i = 0; i < warm + count; i += 1) {
    const began = performance.now();
    data.note(3600 + i * 12, Object.fromEntries(names.map((name, k) => [name, 40 + ((i + k) * 7919) % 30])));
    for (const card of board.cards) card.visible = true;
    board.show({ from: data.from, to: data.to, data });
    await null; // uPlot draws in a microtask
    const script = performance.now() - began;
    for (const canvas of canvases) canvas.getContext("2d").getImageData(0, 0, 1, 1);
    if (i >= warm) took.push([script, performance.now() - began]);
    await new Promise((next) => setTimeout(next, 0));
  }
  board.destroy();
  holder.remove();
  return { took, charts: canvases.length };
};
