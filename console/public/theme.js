// Before the first paint, so that a chosen theme does not flash. Its own file: nothing inline runs here.
try {
  const chosen = localStorage.getItem('theme');
  if (chosen === 'dark' || chosen === 'light') document.documentElement.dataset.theme = chosen;
} catch {
  // Without storage the system's choice holds.
}
